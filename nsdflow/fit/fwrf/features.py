"""What the fwRF solver reads features from, and how it prepares those of one candidate.

:class:`MapFeatures` pools feature maps on the fly; :class:`PooledFeatures` holds pooled features of all candidates,
which is smaller where maps are large and channels few (Gabor: 1.1 million pixels an image, 72 channels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from nsdflow.models.pooling import pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

#: Elementwise, after pooling: none, ``log(1 + |x|)``, or any function of a tensor.
Nonlinearity = Literal["none", "log"] | Callable[[Tensor], Tensor]

#: Added to standard deviations, as published.
EPSILON = 1e-6


class CandidateFeatures(Protocol):
    """Pooled features (candidate, image, feature) of some images, by blocks of candidates."""

    @property
    def candidates(self) -> NDArray[np.floating]:
        """(candidate, 3) the grid."""

    @property
    def images(self) -> int:
        """Number of images."""

    @property
    def features(self) -> int:
        """Number of features."""

    @property
    def image_bytes(self) -> tuple[int, int]:
        """Bytes that pooling one image reads: of its largest array, and of all."""

    def is_on(self, device: torch.device) -> bool:
        """Whether the maps need no copy to be pooled there."""

    def resident(self, rows: Tensor, device: torch.device) -> CandidateFeatures:
        """The features of some images only, on the device."""

    def block(self, block: range, rows: Tensor, device: torch.device) -> Tensor:
        """Features (candidate, image, feature) of a block of candidates for some images."""


@dataclass(frozen=True)
class MapFeatures:
    """Feature maps (image, channel, y, x), one array a level, pooled when they are asked for."""

    maps: Sequence[Tensor | NDArray[Any]]
    candidates: NDArray[np.floating]

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
        return MapFeatures([torch.as_tensor(level[index]).to(device) for level in self.maps], self.candidates)

    def block(self, block: range, rows: Tensor, device: torch.device) -> Tensor:
        return pool(self.maps, self.candidates, block, rows, device=device)


@dataclass(frozen=True)
class PooledFeatures:
    """Pooled features (candidate, image, feature) of the whole grid, in memory or memory-mapped."""

    pooled: Tensor | NDArray[Any]
    candidates: NDArray[np.floating]

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
    """Features of one candidate as the regression sees them."""

    values: Tensor
    """(image, feature [+ 1]) float32; the last column is ones if there is a bias."""
    mean: Tensor
    """(feature,) what was subtracted."""
    std: Tensor
    """(feature,) what was divided by: the standard deviation (ddof 0) + 1e-6."""


def candidate_features(
    features: CandidateFeatures, block: range, at_once: int, rows: Tensor, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Index and features (image, feature) of each candidate of a block, pooled ``at_once`` candidates at a time."""
    for start in range(block.start, block.stop, at_once):
        part = range(start, min(start + at_once, block.stop))
        yield from zip(part, features.block(part, rows, device), strict=True)


def standardised(
    pooled: Tensor, share: Tensor, *, nonlinearity: Nonlinearity, zscore: bool, bias: bool
) -> Standardised:
    """Apply the nonlinearity, z-score each feature over trials, append the column of ones.

    Parameters
    ----------
    pooled : (image, feature).
    share : (image,) each image's share of the trials that the statistics are taken over.
    """
    images, features = pooled.shape
    values = torch.ones(images, features + bias, device=pooled.device)
    columns = values[:, :features]
    columns.copy_(transformed(pooled, nonlinearity))
    mean, std = torch.zeros_like(columns[0]), torch.ones_like(columns[0])
    if zscore:
        mean = share @ columns
        columns.sub_(mean)
        # the mean that rounding left: a feature that does not vary becomes exactly zero, or nearly
        rest = share @ columns
        columns.sub_(rest)
        std = (share @ columns.square()).sqrt() + EPSILON
        columns.div_(std)
        mean = mean + rest
    return Standardised(values, mean, std)


def transformed(pooled: Tensor, nonlinearity: Nonlinearity) -> Tensor:
    """The nonlinearity applied, in new memory or (``none``) the same."""
    if nonlinearity == "none":
        return pooled
    if nonlinearity == "log":
        # literally, not log1p: below 1e-7 the published float32 result is rounded, and z-scoring makes that visible
        return pooled.abs().add_(1).log_()
    return nonlinearity(pooled)
