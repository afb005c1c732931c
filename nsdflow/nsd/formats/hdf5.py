"""Reading (trial, ..., voxel) datasets of HDF5 at some voxels, in the way their chunks allow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.errors import SourceError

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

__all__ = ["check_written", "iter_voxels"]

#: Bound on the voxels read at once, which bounds memory.
_LONGEST_RUN: Final = 4096

_ALL: Final = slice(None)


def iter_voxels(
    dataset: h5py.Dataset, voxels: NDArray[np.intp]
) -> Iterator[tuple[slice, slice | NDArray[np.intp], NDArray[Any]]]:
    """Values of a dataset whose first axis is the trial, at some voxels, block by block.

    NSD stores the trials of one voxel in each chunk; then only runs of neighbouring voxels are read. A dataset with
    other chunks is read from start to end, some trials at a time.

    Parameters
    ----------
    dataset : h5py.Dataset, shape (trial, ...)
    voxels : array of int
        Flat C-order indices into all axes but the first, in any order.

    Yields
    ------
    trials : slice
    positions : slice or array of int
        Which elements of ``voxels``.
    values : array, shape (trials, positions)
    """
    check_written(dataset)
    trials = dataset.shape[0]
    if dataset.chunks is not None and dataset.chunks[0] >= trials:
        yield from _iter_runs(dataset, voxels)
        return
    step = dataset.chunks[0] if dataset.chunks is not None else 1
    for start in range(0, trials, step):
        block = dataset[start : start + step]
        yield slice(start, start + len(block)), _ALL, block.reshape(len(block), -1)[:, voxels]


def check_written(dataset: h5py.Dataset) -> None:
    """Refuse a dataset with parts that were never written, which HDF5 reads as zeros.

    Raises
    ------
    SourceError
        The message says how much is missing.
    """
    if dataset.chunks is None:
        expected, found = int(dataset.nbytes), int(dataset.id.get_storage_size())
        unit = "bytes"
    elif dataset.compression is None and not dataset.shuffle and not dataset.fletcher32:
        chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
        expected, found = _chunks(dataset), int(dataset.id.get_storage_size()) // chunk_bytes
        unit = "chunks"
    else:
        expected, found, unit = _chunks(dataset), int(dataset.id.get_num_chunks()), "chunks"
    if found < expected:
        raise SourceError(
            f"{dataset.file.filename}: {expected - found:,} of {expected:,} {unit} of {dataset.name} were never "
            "written; copy the published file"
        )


def _chunks(dataset: h5py.Dataset) -> int:
    return math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))


def _iter_runs(
    dataset: h5py.Dataset, voxels: NDArray[np.intp]
) -> Iterator[tuple[slice, NDArray[np.intp], NDArray[Any]]]:
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
            yield _ALL, order[start:stop], dataset[(slice(None), *map(int, where), along)]
