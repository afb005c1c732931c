"""From the vertices of surfaces to an anatomical volume."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["splat"]

#: Smallest total weight of a voxel; others are empty.
LEAST_WEIGHT: Final = 1e-5


def splat(values: NDArray[Any], coordinates: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Weighted mean (voxel, frame), in every voxel, of the vertices around it; NaN where no vertex is near.

    A vertex contributes to the 8 voxels at its floor and ceiling with the weight
    ``(1 - |dx|) + (1 - |dy|) + (1 - |dz|)``: a sum, not a product, as in NSD's own tool.

    Parameters
    ----------
    values : (vertex, frame)
        Vertices of one or several surfaces.
    coordinates : (vertex, 3) float
        1-based positions in the volume.
    shape : tuple of int
        (i, j, k) of the volume.

    Raises
    ------
    ValueError
        A vertex lies outside the volume.
    """
    c = np.asarray(coordinates, np.float64)
    low, high = np.floor(c).astype(np.intp), np.ceil(c).astype(np.intp)
    if not np.isfinite(c).all() or (low < 1).any() or (high > np.asarray(shape)).any():
        raise ValueError(f"vertices outside the volume of {' x '.join(map(str, shape))} voxels")
    total = np.zeros(prod(shape))
    sums = np.zeros((prod(shape), values.shape[1]))
    for corner in np.ndindex(2, 2, 2):
        voxel = np.where(np.asarray(corner) == 1, high, low)
        weight = (1 - np.abs(c - voxel)).sum(axis=1)
        flat = np.ravel_multi_index(tuple((voxel - 1).T), shape)
        total += np.bincount(flat, weight, total.size)
        for frame in range(values.shape[1]):
            sums[:, frame] += np.bincount(flat, weight * values[:, frame], total.size)
    filled = total >= LEAST_WEIGHT
    sums[~filled] = np.nan
    sums[filled] /= total[filled, None]
    return sums
