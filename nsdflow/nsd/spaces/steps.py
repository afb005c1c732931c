"""The steps of a mapping between spaces: each takes (source, frame) to (target, frame)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import SelectionError
from nsdflow.nsd.spaces.resampling import resample
from nsdflow.nsd.spaces.sampling import Points, sample
from nsdflow.nsd.spaces.splatting import splat

__all__ = ["Flip", "Gather", "MappingStep", "Missing", "Resample", "Sample", "Splat", "vote"]

Shape = tuple[int, int, int]
#: Effect of a missing voxel on its neighbours.
Missing = Literal["propagate", "ignore"]
#: Smallest share of the weight on voxels with data, if missing ones are ignored.
LEAST_SHARE = 0.5


class MappingStep(Protocol):
    """One linear operation; values are flat in C order, vertices of the left hemisphere first."""

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(source, frame) to (target, frame)."""
        ...


@dataclass(frozen=True)
class Sample:
    """Sample a volume at points; with several sets of points (layers of cortex), the mean over the sets.

    With ``missing="propagate"``, as published, one NaN voxel or layer makes the result NaN. With ``"ignore"``, the
    weights of the voxels with data are normalised where they are at least half of all.
    """

    shape: Shape
    sets: tuple[Points, ...]
    method: str
    missing: Missing = "propagate"

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(voxel, frame) to (target, frame)."""
        total = np.zeros((self.sets[0].count, values.shape[1]))
        counted = np.zeros_like(total)
        for points in self.sets:
            sampled = self._sampled(values, points)
            if self.missing == "ignore":
                counted += np.isfinite(sampled)
                sampled = np.nan_to_num(sampled)
            total += sampled
        if self.missing == "propagate":
            return total / len(self.sets)
        with np.errstate(invalid="ignore"):
            return np.asarray(total / counted)

    def _sampled(self, values: NDArray[Any], points: Points) -> NDArray[np.float64]:
        if self.missing == "propagate":
            return sample(values, self.shape, points, self.method)
        there = np.isfinite(values)
        weight = sample(there, self.shape, points, self.method)
        weight[~(weight >= LEAST_SHARE)] = np.nan
        return sample(np.where(there, values, 0), self.shape, points, self.method) / weight


@dataclass(frozen=True)
class Gather:
    """Take the vertex of another surface that is nearest to each vertex of this one."""

    index: NDArray[np.intp]

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(vertex, frame) to (vertex, frame)."""
        return np.asarray(values, np.float64)[self.index]


@dataclass(frozen=True)
class Splat:
    """Put the vertices of a surface into a volume, at their positions in one or several layers."""

    shape: Shape
    coordinates: tuple[NDArray[np.float32], ...]

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(vertex, frame) to (voxel, frame)."""
        return splat(np.tile(values, (len(self.coordinates), 1)), np.concatenate(self.coordinates), self.shape)


@dataclass(frozen=True)
class Resample:
    """From one anatomical resolution to another."""

    shape: Shape
    new_shape: Shape

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(voxel, frame) to (voxel, frame)."""
        return resample(values, self.shape, self.new_shape)


@dataclass(frozen=True)
class Flip:
    """Reverse the first axis: transforms from and to MNI count it from right to left, volumes from left to right."""

    shape: Shape

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(voxel, frame) to (voxel, frame)."""
        return np.asarray(values).reshape(*self.shape, -1)[::-1].reshape(len(values), -1)


def vote(steps: tuple[MappingStep, ...], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Winner takes all: the label whose mapped map of 0 and 1 is largest, the lowest of equals; NaN without a value.

    ``steps`` are a linear mapping, and ``labels`` (source, frame) are finite.

    Raises
    ------
    SelectionError
        A label is not a whole number.
    """
    if not (np.isfinite(labels).all() and np.array_equal(labels, np.round(labels))):
        raise SelectionError(
            "method 'wta' is for labels, which are whole numbers; write 'linear' for values, or replace missing labels "
            "by another one, such as -1"
        )
    best: NDArray[np.float64] | None = None
    for label in np.unique(labels):
        mapped = np.asarray(labels == label, np.float64)
        for step in steps:
            mapped = step.apply(mapped)
        if best is None:
            best, winner = np.full(mapped.shape, -np.inf), np.full(mapped.shape, np.nan)
        larger = mapped > best  # NaN is not
        best[larger], winner[larger] = mapped[larger], label
    assert best is not None
    return winner
