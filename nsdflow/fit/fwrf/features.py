"""Feature sources of the fwRF solver, and standardisation of the features of one candidate.

:class:`MapFeatures` pools feature maps on the fly. :class:`PooledFeatures` holds the pooled features of all candidates,
which takes less memory if maps are large and channels are few (Gabor: 1.1 million pixels per image, 72 channels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nsdflow.models.networks.levels import ChannelSelection
from nsdflow.models.pooling import pool
from nsdflow.names import ZSCORE_EPSILON

__all__ = [
    "CandidateFeatures",
    "MapFeatures",
    "Nonlinearity",
    "PooledFeatures",
    "Standardised",
    "candidate_features",
    "standardised",
    "transformed",
]

#: Elementwise function applied after pooling: none, ``log(1 + |x|)``, or any function of a tensor.
Nonlinearity = Literal["none", "log"] | Callable[[Tensor], Tensor]


class CandidateFeatures(Protocol):
    """Source of pooled features (candidate, image, feature), read in blocks of candidates."""

    @property
    def candidates(self) -> NDArray[np.floating]:
        """Grid of candidates (candidate, 3): x, y, sigma."""

    @property
    def channels(self) -> ChannelSelection | None:
        """Origin of the features, where known."""

    @property
    def images(self) -> int:
        """Number of images."""

    @property
    def features(self) -> int:
        """Number of features."""

    @property
    def image_bytes(self) -> tuple[int, int]:
        """Bytes read to pool one image: of its largest array, and of all its arrays."""

    def is_on(self, device: torch.device) -> bool:
        """Whether pooling on ``device`` needs no copy of the maps."""

    def resident(self, rows: Tensor, device: torch.device) -> CandidateFeatures:
        """Return a source with only the images ``rows`` (row,), on ``device``."""

    def block(self, block: range, rows: Tensor, device: torch.device) -> Tensor:
        """Return the features (candidate, row, feature) of a block of candidates for the images ``rows`` (row,)."""


@dataclass(frozen=True)
class MapFeatures:
    """Feature maps (image, channel, y, x), one array per level, pooled on request."""

    maps: Sequence[Tensor | NDArray[Any]]
    candidates: NDArray[np.floating]
    channels: ChannelSelection | None = None
    """Origin of the features, where known."""

    @property
    def images(self) -> int:
        return int(self.maps[0].shape[0])

    @property
    def features(self) -> int:
        return sum(int(level.shape[1]) for level in self.maps)

    @property
    def image_bytes(self) -> tuple[int, int]:
        sizes = [4 * int(np.prod(level.shape[1:])) for level in self.maps]
        return max(sizes), sum(sizes)

    def is_on(self, device: torch.device) -> bool:
        return device.type == "cpu" or all(isinstance(level, Tensor) and level.device == device for level in self.maps)

    def resident(self, rows: Tensor, device: torch.device) -> MapFeatures:
        index = rows.numpy()
        return MapFeatures(
            [torch.as_tensor(level[index]).to(device) for level in self.maps], self.candidates, self.channels
        )

    def block(self, block: range, rows: Tensor, device: torch.device) -> Tensor:
        return pool(self.maps, self.candidates, block, rows, device=device)


@dataclass(frozen=True)
class PooledFeatures:
    """Pooled features (candidate, image, feature) of the whole grid, in memory or memory-mapped."""

    pooled: Tensor | NDArray[Any]
    candidates: NDArray[np.floating]
    channels: ChannelSelection | None = None
    """Origin of the features, where known."""

    @property
    def images(self) -> int:
        return int(self.pooled.shape[1])

    @property
    def features(self) -> int:
        return int(self.pooled.shape[2])

    @property
    def image_bytes(self) -> tuple[int, int]:
        return 4 * self.features, 0

    def is_on(self, device: torch.device) -> bool:
        return True

    def resident(self, rows: Tensor, device: torch.device) -> PooledFeatures:
        return self

    def block(self, block: range, rows: Tensor, device: torch.device) -> Tensor:
        return torch.as_tensor(self.pooled[block.start : block.stop])[:, rows].to(device)


class Standardised(NamedTuple):
    """Features of one candidate, standardised for the regression."""

    values: Tensor
    """(image, feature [+ 1]) float32. With a bias, the last column is ones."""
    mean: Tensor
    """(feature,) float32, the subtracted mean."""
    std: Tensor
    """(feature,) float32, the divisor: standard deviation (ddof 0) + 1e-6."""


def candidate_features(
    features: CandidateFeatures, block: range, at_once: int, rows: Tensor, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Yield index and features (image, feature) of each candidate of a block, pooling ``at_once`` at a time."""
    for start in range(block.start, block.stop, at_once):
        part = range(start, min(start + at_once, block.stop))
        yield from zip(part, features.block(part, rows, device), strict=True)


def standardised(
    pooled: Tensor, share: Tensor, *, nonlinearity: Nonlinearity, zscore: bool, bias: bool
) -> Standardised:
    """Apply the nonlinearity, z-score each feature over trials and append the column of ones.

    Parameters
    ----------
    pooled : torch.Tensor
        (image, feature) pooled features of one candidate.
    share : torch.Tensor
        (image,) share of each image in the trials that define the statistics. The shares sum to 1.
    nonlinearity : {"none", "log"} or callable
        Elementwise function applied before z-scoring.
    zscore : bool
        Subtract the mean and divide by the standard deviation + 1e-6.
    bias : bool
        Append a column of ones.

    Returns
    -------
    Standardised
        Values (image, feature [+ 1]), mean (feature,) and std (feature,).
    """
    images, features = pooled.shape
    values = torch.ones(images, features + bias, device=pooled.device)
    columns = values[:, :features]
    columns.copy_(transformed(pooled, nonlinearity))
    mean, std = torch.zeros_like(columns[0]), torch.ones_like(columns[0])
    if zscore:
        mean = share @ columns
        columns.sub_(mean)
        # the mean left by rounding: subtracting it brings a constant feature to zero, or nearly
        rest = share @ columns
        columns.sub_(rest)
        std = (share @ columns.square()).sqrt() + ZSCORE_EPSILON
        columns.div_(std)
        mean = mean + rest
    return Standardised(values, mean, std)


def transformed(pooled: Tensor, nonlinearity: Nonlinearity) -> Tensor:
    """Apply the nonlinearity. The result is a new tensor, or ``pooled`` itself for ``none``."""
    if nonlinearity == "none":
        return pooled
    if nonlinearity == "log":
        # not log1p: the published float32 result is rounded below 1e-7, and z-scoring makes the rounding visible
        return pooled.abs().add_(1).log_()
    return nonlinearity(pooled)
