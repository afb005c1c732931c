"""Reading (trial, ..., voxel) datasets of HDF5 at some voxels, in the way their chunks allow."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

__all__ = ["read_voxels"]

#: Bound on the voxels read at once, which bounds memory.
_LONGEST_RUN: Final = 4096


def read_voxels(dataset: h5py.Dataset, voxels: NDArray[np.intp], out: NDArray[Any]) -> None:
    """Fill ``out`` (trial, voxel) from a dataset whose first axis is the trial.

    NSD stores one voxel's trials in each chunk: there, runs of neighbouring voxels are read and nothing else. A
    dataset laid out in another way is read through, some trials at a time.

    Parameters
    ----------
    dataset : h5py.Dataset, shape (trial, ...)
    voxels : array of int
        Flat C-order indices into all axes but the first, in any order.
    out : array, shape (trial, len(voxels))
        Of the dataset's type.
    """
    trials = len(out)
    if dataset.chunks is not None and dataset.chunks[0] >= trials:
        _read_runs(dataset, voxels, out)
        return
    step = dataset.chunks[0] if dataset.chunks is not None else 1
    for start in range(0, trials, step):
        block = dataset[start : start + step]
        np.take(block.reshape(len(block), -1), voxels, axis=1, out=out[start : start + step], mode="clip")


def _read_runs(dataset: h5py.Dataset, voxels: NDArray[np.intp], out: NDArray[Any]) -> None:
    *outer, line = dataset.shape[1:]
    order = np.argsort(voxels, kind="stable")
    ordered = voxels[order]
    row, place = np.divmod(ordered, line)
    # a run ends where the next voxel is not the neighbour on the same line, or a whole block further
    ends = (np.diff(ordered) != 1) | (np.diff(row) != 0) | (np.diff(place // _LONGEST_RUN) != 0)
    edges = [0, *(np.flatnonzero(ends) + 1), len(ordered)]
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            where = np.unravel_index(row[start], outer) if outer else ()
            along = slice(int(place[start]), int(place[stop - 1]) + 1)
            out[:, order[start:stop]] = dataset[(slice(None), *map(int, where), along)]
