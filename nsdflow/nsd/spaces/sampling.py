"""Sampling of volumes at points between voxels, by the rules that produced NSD's published data.

Coordinates are 1-based, as NSD's transform files store them. A point is valid if all its coordinates are finite and
within 1..N, tested before any rounding; all other points become NaN. Taps outside the volume take the value of the
nearest voxel at the edge. A NaN in any tap makes the result NaN, whatever its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["KERNELS", "Kernel", "Points", "cast_values", "padded", "sample", "valid_points"]

#: Bytes of the gathered taps of one block; blocks that fit into the second cache of a core are fastest.
SAMPLE_BLOCK_BYTES: Final = 1 << 20
#: Volumes that are padded at once, in bytes.
FRAME_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Kernel:
    """One interpolation along an axis.

    Attributes
    ----------
    taps : int
        Voxels that contribute along each axis.
    before : int
        Voxels below the base voxel among them.
    base : callable
        Base voxel (1-based) of coordinates.
    weights : callable
        Distances ``t = c - base`` to weights (point, tap).
    """

    taps: int
    before: int
    base: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    weights: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _cubic_weights(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Catmull-Rom (Keys with a = -1/2) at taps -1, 0, 1, 2."""
    t2, t3 = t * t, t * t * t
    return np.stack(
        [-t / 2 + t2 - t3 / 2, 1 - 2.5 * t2 + 1.5 * t3, t / 2 + 2 * t2 - 1.5 * t3, -t2 / 2 + t3 / 2], axis=-1
    )


#: Interpolations by name. ``nearest`` rounds halves up.
KERNELS: Final[Mapping[str, Kernel]] = {
    "nearest": Kernel(1, 0, lambda c: np.floor(c + 0.5), lambda t: np.ones((*t.shape, 1))),
    "linear": Kernel(2, 0, np.floor, lambda t: np.stack([1 - t, t], axis=-1)),
    "cubic": Kernel(4, 1, np.floor, _cubic_weights),
}


@dataclass(frozen=True)
class Points:
    """Points at which a volume is sampled: those of all targets that lie inside it.

    Attributes
    ----------
    count : int
        Number of targets (voxels or vertices).
    index : numpy.ndarray
        (point,) int; the target of each valid point, ascending.
    coordinates : numpy.ndarray
        (point, 3) float; 1-based position in the source volume.
    """

    count: int
    index: NDArray[np.integer[Any]]
    coordinates: NDArray[np.floating[Any]]

    @staticmethod
    def concatenate(parts: list[Points]) -> Points:
        """Targets one set after the other, such as the two hemispheres."""
        starts = np.cumsum([0, *(part.count for part in parts)])
        index = np.concatenate([part.index + start for part, start in zip(parts, starts[:-1], strict=True)])
        return Points(int(starts[-1]), index, np.concatenate([part.coordinates for part in parts]))


def valid_points(coordinates: ArrayLike, shape: tuple[int, int, int]) -> Points:
    """Keep the points inside a volume.

    Parameters
    ----------
    coordinates : (target, 3) float
        1-based; whatever is stored for "no data" (NaN, 9999, or arithmetic on it) is out of range.
    shape : tuple of int
        (i, j, k) of the source volume.
    """
    c = np.asarray(coordinates)
    # NaN fails both comparisons
    inside = np.flatnonzero(((c >= 1) & (c <= np.asarray(shape))).all(axis=1))
    return Points(len(c), inside, c[inside])


def padded(volume: NDArray[Any], kernel: Kernel) -> NDArray[np.float64]:
    """A volume (i, j, k, frame) as float64 with its edges repeated, so that all taps of a valid point exist."""
    after = kernel.taps - 1 - kernel.before
    return np.pad(np.asarray(volume, np.float64), [(kernel.before, after)] * 3 + [(0, 0)], mode="edge")


def sample(
    values: NDArray[Any], shape: tuple[int, int, int], points: Points, method: str = "cubic"
) -> NDArray[np.float64]:
    """Sample volumes at points.

    Parameters
    ----------
    values : (voxel, frame)
        Volumes, flat in C order.
    shape : tuple of int
        (i, j, k).
    points : Points
        Where to sample.
    method : {"nearest", "linear", "cubic"}
        Trilinear, or separable Catmull-Rom.

    Returns
    -------
    (target, frame) float64
        NaN where a target has no valid point.
    """
    kernel = KERNELS[method]
    frames = values.shape[1]
    result = np.full((points.count, frames), np.nan)
    for some in _blocks(frames, FRAME_BYTES // (8 * prod(shape))):
        volume = padded(values[:, some].reshape(*shape, -1), kernel)
        table = volume.reshape(-1, volume.shape[-1])
        offsets = _tap_offsets(kernel, volume.shape[1], volume.shape[2])
        for block in _blocks(len(points.index), SAMPLE_BLOCK_BYTES // (8 * kernel.taps**3 * table.shape[1])):
            base, weights = _base_and_weights(points.coordinates[block], kernel, volume.shape)
            taps = np.take(table, base[:, None] + offsets, axis=0).reshape(len(base), *(kernel.taps,) * 3, -1)
            for w in weights[::-1]:  # contract the last remaining axis of taps: k, then j, then i
                taps = np.einsum("p...af,pa->p...f", taps, w)
            result[points.index[block], some] = taps
    return result


def _blocks(count: int, most: int) -> Iterator[slice]:
    """Slices of at most ``most`` (and at least one) of ``count`` items."""
    size = max(1, most)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _tap_offsets(kernel: Kernel, j: int, k: int) -> NDArray[np.intp]:
    """Offsets of all taps from the first one, in a padded volume (..., j, k)."""
    a = np.arange(kernel.taps)
    return np.asarray((a[:, None, None] * j + a[:, None]) * k + a, np.intp).ravel()


def _base_and_weights(
    coordinates: NDArray[Any], kernel: Kernel, padded_shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], list[NDArray[np.float64]]]:
    """First tap of each point in the padded volume (flat), and the weights (point, tap) along each axis."""
    c = coordinates.astype(np.float64)
    base = kernel.base(c)
    # 1-based base b is 0-based b - 1, its first tap b - 1 - before, which the padding shifts by before
    first = base.astype(np.intp) - 1
    _, j, k = padded_shape[:3]
    flat = (first[:, 0] * j + first[:, 1]) * k + first[:, 2]
    return flat, [kernel.weights(c[:, axis] - base[:, axis]) for axis in range(3)]


def cast_values(values: NDArray[np.float64], dtype: DTypeLike, fill: float = np.nan) -> NDArray[Any]:
    """Sampled values in the type of their source: NaN becomes ``fill`` first.

    Integers are rounded half away from zero and saturate; remaining NaN values become 0.
    """
    filled = np.where(np.isnan(values), fill, values)
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        return filled.astype(kind)
    limits = np.iinfo(kind)
    rounded = np.trunc(filled + np.copysign(0.5, filled))
    return np.asarray(np.clip(np.nan_to_num(rounded), limits.min, limits.max), kind)
