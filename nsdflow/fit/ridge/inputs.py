"""Inputs of a ridge fit: columns of features and blocks of voxels, from memory or disk.

An input is any object with ``shape`` and ``[:, a:b]``: a tensor, a NumPy array or memory map, a Zarr or HDF5 array.
Observations are trials, or averages of trials with the number of trials as weight. Let image i have n_i trials,
features x_i (feature,) and mean response y_i. For weights w (feature,), the trial-level problem equals a problem with
one row per image and weight n_i, up to a constant:

    sum_trials (y - x_i'w)^2 = sum_i n_i (y_i - x_i'w)^2 + within,     within = sum_trials (y - y_i)^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import torch
from torch import Tensor

__all__ = [
    "CPU",
    "Columns",
    "FeatureStatistics",
    "Observations",
    "as_tensor",
    "blocks",
    "standardised_columns",
    "take_columns",
]


CPU: Final = torch.device("cpu")


class Columns(Protocol):
    """Matrix (row, column) read by columns."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (row, column)."""

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True)
class Observations:
    """Image and number of trials of each row of the responses."""

    image: Tensor
    """(observation,) int64, row of the features."""
    weight: Tensor
    """(observation,) float64, number of trials."""
    images: int
    """Number of rows of the features."""

    @classmethod
    def of(cls, images: int, image: Tensor | None = None, weight: Tensor | None = None) -> Observations:
        """Create observations from image rows and weights. Default: one observation per image, of weight 1.

        Raises
        ------
        ValueError
            An observation is not a row of the features, or its weight is not positive.
        """
        image = torch.arange(images) if image is None else torch.as_tensor(image, dtype=torch.int64, device=CPU)
        weight = torch.ones(len(image)) if weight is None else torch.as_tensor(weight, device=CPU)
        if len(image) != len(weight):
            raise ValueError(f"{len(image)} observations but {len(weight)} weights; give one weight per observation")
        if len(image) == 0 or int(image.min()) < 0 or int(image.max()) >= images:
            raise ValueError(f"observations show image rows outside 0..{images - 1}; give rows of the features")
        if not bool((weight > 0).all() & weight.isfinite().all()):
            raise ValueError("weights must be positive numbers of trials")
        return cls(image, weight.double(), images)

    def to(self, device: torch.device) -> Observations:
        """Return the observations with their tensors on a device."""
        return Observations(self.image.to(device), self.weight.to(device), self.images)

    def reordered(self, order: Tensor) -> Observations:
        """Return the same observations for images in another order (image,)."""
        return replace(self, image=torch.argsort(order)[self.image])

    def counts(self, used: Tensor | None = None) -> Tensor:
        """Count the trials of each image, (image,) float64, over all observations or those marked in ``used``."""
        weight = self.weight if used is None else torch.where(used, self.weight, 0.0)
        return weight.new_zeros(self.images).index_add_(0, self.image, weight)

    def means(self, Y: Tensor, used: Tensor | None = None) -> Tensor:
        """Average Y (observation, voxel) per image to (image, voxel), in the dtype of Y; 0 without trials."""
        weight = self.weight if used is None else torch.where(used, self.weight, 0.0)
        counts = self.counts(used)
        share = (weight / counts.clamp(min=1e-300)[self.image]).to(Y.dtype)
        mean = Y.new_zeros(self.images, Y.shape[1])
        rows = torch.arange(len(Y), device=Y.device) if used is None else used.nonzero()[:, 0]
        for some in rows.split(2048):
            mean.index_add_(0, self.image[some], Y[some] * share[some, None])
        return mean


def as_tensor(values: Any, device: torch.device = CPU) -> Tensor:
    """Convert a block to a tensor on a device. float64 is kept, and other dtypes become float32."""
    tensor = torch.as_tensor(values).to(device)
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` items that cover ``count`` items."""
    return (slice(start, min(start + size, count)) for start in range(0, count, max(1, size)))


def take_columns(matrix: Columns, wanted: Tensor, span: int) -> Tensor:
    """Read ascending columns of a matrix. Matrices on disk are read in contiguous blocks of at most ``span``."""
    if isinstance(matrix, Tensor):
        return as_tensor(matrix[:, wanted])
    taken = None
    for block in blocks(int(matrix.shape[1]), span):
        places = ((wanted >= block.start) & (wanted < block.stop)).nonzero()[:, 0]
        if len(places):
            first, last = int(wanted[places[0]]), int(wanted[places[-1]]) + 1
            values = as_tensor(matrix[:, first:last])
            taken = values.new_empty(len(values), len(wanted)) if taken is None else taken
            taken[:, places] = values[:, wanted[places] - first]
    assert taken is not None
    return taken


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and standard deviation (feature,) of the features."""

    mean: Tensor
    std: Tensor

    def apply(self, values: Tensor, columns: slice) -> Tensor:
        """Standardise a block (row, feature) of the given columns in place."""
        return values.sub_(self.mean[columns]).div_(self.std[columns])

    def to(self, device: torch.device) -> FeatureStatistics:
        """Return the statistics on a device."""
        return FeatureStatistics(self.mean.to(device), self.std.to(device))


def standardised_columns(values: Tensor, weight: Tensor, *, center: bool, scale: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Standardise a block of features over rows weighted by trials.

    Parameters
    ----------
    values : torch.Tensor
        (row, feature), modified in place.
    weight : torch.Tensor
        (row,) float64. Rows of weight 0 do not affect mean and standard deviation.
    center : bool
        Subtract the mean.
    scale : bool
        Divide by the standard deviation (ddof 0). With ``scale``, a constant feature becomes 0 with ``center``, and
        keeps its values otherwise.

    Returns
    -------
    values : torch.Tensor
        (row, feature), the standardised argument.
    mean : torch.Tensor
        (feature,) subtracted mean.
    std : torch.Tensor
        (feature,) divisor.
    """
    share = (weight / weight.sum()).to(values)
    mean = values.new_zeros(values.shape[1])
    seen = values if bool((share > 0).all()) else values[share > 0]
    constant = seen.amax(0) == seen.amin(0) if scale else torch.zeros_like(mean, dtype=torch.bool)
    del seen
    if center:
        for _ in range(2):  # the second pass removes the rounding error of the first
            step = share @ values
            values -= step
            mean += step
        values[:, constant] = 0
    if not scale:
        return values, mean, torch.ones_like(mean)
    variance = values.new_zeros(values.shape[1]) if center else -(share @ values).square()
    for rows in blocks(len(values), 1024):
        variance += share[rows] @ values[rows].square()
    std = torch.where(constant | (variance <= 0), 1.0, variance.clamp(min=0).sqrt())
    return values.div_(std), mean, std
