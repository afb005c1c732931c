"""Lazy arrays of responses and images, and the reads that computing them takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.utils import format_bytes
from numpy.typing import ArrayLike, NDArray

from nsdflow.store.query.arrays import SubjectArrays
from nsdflow.store.query.blocks import cut_rows, cut_table, read_image_block, read_response_block
from nsdflow.store.query.selection import select_images
from nsdflow.store.query.zscoring import ZSCORINGS
from nsdflow.store.shard_format import ShardedArray

__all__ = ["Explanation", "explain", "lazy_images", "lazy_responses"]

#: A lazy block of images holds about this many bytes.
IMAGE_BLOCK_BYTES: Final = 16 << 20

#: Positions of trials and of voxels.
Positions = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class Explanation:
    """Reads of a query."""

    shape: tuple[int, int]
    """(trial, voxel) of the result."""
    result_bytes: int
    """Size of the result in memory (float32)."""
    bytes: int
    """Bytes of the chunks to read, before compression."""
    chunks: int
    files: int

    def __str__(self) -> str:
        trials, voxels = self.shape
        return (
            f"{trials} trials x {voxels} voxels = {format_bytes(self.result_bytes)} of float32; "
            f"reads {format_bytes(self.bytes)} in {self.chunks} chunks of {self.files} files"
        )


def explain(arrays: SubjectArrays, table: xr.Dataset, positions: Positions, zscore: str | bool) -> Explanation:
    """Return the reads of :func:`lazy_responses` for the same arguments."""
    rows, columns = positions
    reads = [(arrays.betas, rows)]
    if ZSCORINGS[zscore].stored_statistics:
        session = rows // arrays.betas.chunk[0]
        reads += [(arrays.mean, session), (arrays.std, session)]
    chunks = [array.count_chunks(where, columns) for array, where in reads]
    return Explanation(
        shape=(len(rows), len(columns)),
        result_bytes=4 * len(rows) * len(columns),
        bytes=sum(n * prod(a.chunk) * a.dtype.itemsize for n, (a, _) in zip(chunks, reads, strict=True)),
        chunks=sum(chunks),
        files=sum(array.count_shards(where, columns) for array, where in reads),
    )


def lazy_responses(arrays: SubjectArrays, table: xr.Dataset, positions: Positions, zscore: str | bool) -> xr.DataArray:
    """Responses (trial, voxel) float32 on Dask, with coordinates that are read when they are first used.

    Parameters
    ----------
    table : Dataset
        The coordinates of its trials and voxels.
    positions : (trial,) int, (voxel,) int
        Positions to take, in any order.
    zscore : str or bool
        As checked by :class:`~nsdflow.store.query.selection.Selection`.
    """
    rows, columns = positions
    sizes = cut_table(rows, len(columns), (arrays.betas.chunk[0], arrays.betas.chunk[1]))
    read = partial(read_response_block, arrays=arrays, zscore=zscore)
    values = _query_array(read, positions, sizes, arrays, zscore)
    scoring = ZSCORINGS[zscore]
    attrs = {**table.attrs, "units": scoring.units, "long_name": scoring.long_name}
    chosen = table.isel(trial=rows, voxel=columns)
    return chosen.assign(responses=(("trial", "voxel"), values, attrs))["responses"]  # coordinates are not copied


def lazy_images(array: ShardedArray, table: xr.Dataset, nsd_id: ArrayLike | None) -> xr.DataArray:
    """Images (image, channel, y, x) uint8 on Dask; see :meth:`nsdflow.store.Store.images`."""
    rows = select_images(table, nsd_id)
    named = "nsd_id" in table.variables
    ids = table["nsd_id"].values[rows] if named else rows
    pixels = array.shape[1:]
    sizes = cut_rows(len(rows), max(array.chunk[0], IMAGE_BLOCK_BYTES // prod(pixels)))
    values = da.map_blocks(
        read_image_block,
        *(da.from_array(known[:, None, None, None], chunks=(sizes, 1, 1, 1)) for known in (rows, ids)),
        images=array,
        named=named,
        chunks=(sizes, *((size,) for size in pixels)),
        dtype=np.uint8,
        meta=np.empty((0, *pixels), np.uint8),
    )
    _, height, width = pixels
    edges = {
        "y": ("y", np.arange(height)[::-1], {"long_name": "pixel from the bottom edge, from 0"}),
        "x": ("x", np.arange(width), {"long_name": "pixel from the left edge, from 0"}),
    }
    coords = table.isel(image=rows).assign_coords(edges).coords
    return xr.DataArray(values, coords, ("image", "channel", "y", "x"), "images", dict(table.attrs))


class _QueryArray(da.Array):
    """A Dask array that returns the result of its only block without a copy.

    Dask copies it, since a block may also lie in the memory of a worker or in a graph. The blocks of a query exist only
    for the caller who computes it. Arrays derived from this one, and the result of ``persist``, are plain Dask arrays.
    """

    __slots__ = ()

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return (_only_block if self.npartitions == 1 else super().__dask_postcompute__()[0]), ()

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        plain = da.Array(self.dask, self.name, self.chunks, meta=meta_from_array(self))
        return plain.__dask_postpersist__()  # type: ignore[no-any-return]


def _only_block(results: Any) -> Any:
    while isinstance(results, list | tuple):
        (results,) = results
    return results


def _query_array(
    read: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[Any]],
    positions: tuple[NDArray[np.intp], NDArray[np.intp]],
    sizes: tuple[tuple[int, ...], tuple[int, ...]],
    *tokens: Hashable,
) -> da.Array:
    """A lazy float32 array (trial, voxel) of one task per block.

    Parameters
    ----------
    read : callable
        ``read(rows, columns)`` returns a block; its arguments are all that a task holds.
    positions : (trial,) int, (voxel,) int
        Rows and columns of the array.
    sizes : tuple of int, tuple of int
        Sizes of the blocks along both axes.
    *tokens
        Further values that the result depends on, for the name of the array.
    """
    name = f"responses-{tokenize(*positions, sizes, *tokens)}"
    rows, columns = (_cut(values, lengths) for values, lengths in zip(positions, sizes, strict=True))
    tasks: dict[Any, Any] = {
        (name, i, j): (read, some, others) for i, some in enumerate(rows) for j, others in enumerate(columns)
    }
    graph = HighLevelGraph.from_collections(name, tasks)
    return _QueryArray(graph, name, sizes, meta=np.empty((0, 0), np.float32))


def _cut(values: NDArray[np.intp], sizes: Sequence[int]) -> list[NDArray[np.intp]]:
    return np.split(values, np.cumsum(sizes)[:-1])
