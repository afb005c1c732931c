"""Lazy blocks of a query: their sizes, and the tasks that read them, whose arguments are paths and positions.

Blocks are cut by bytes, in whole sessions if the selection allows it.

Few large blocks keep graphs small and leave Dask little to put together. All blocks of an axis have the same size
(the last may be smaller), since Zarr accepts nothing else when a query is written.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import StoreError
from nsdflow.store.chunks import read_region
from nsdflow.store.coordinates import read_coordinate
from nsdflow.store.query.arrays import SubjectArrays, steady
from nsdflow.store.query.zscoring import ZSCORINGS
from nsdflow.store.shard_format import Index, ShardedArray, open_sharded

__all__ = ["BLOCK_BYTES", "cut_rows", "cut_table", "read_image_block", "read_response_block"]

#: A lazy block of float32 responses holds about this many bytes at most.
BLOCK_BYTES: Final = 256 << 20
#: Smallest number of sessions in a block that cannot hold all voxels: a selection with different numbers of trials per
#: session does not match the boundaries of blocks, and reads the session at each boundary twice.
BLOCK_SESSIONS: Final = 8
#: Bytes of a float32.
ITEM_BYTES: Final = 4

BlockSizes = tuple[int, ...]


def cut_table(rows: NDArray[np.intp], columns: int, chunk: tuple[int, int]) -> tuple[BlockSizes, BlockSizes]:
    """Sizes of the blocks of responses along ``trial`` and along ``voxel``.

    Parameters
    ----------
    rows : (trial,) int
        Positions of the trials that are asked for, in the order of the result.
    columns : int
        Number of voxels.
    chunk : tuple of int
        Trials (one session) and voxels of a stored chunk.

    Examples
    --------
    >>> cut_table(np.arange(30_000), 1350, (750, 1000))  # V1 of 40 sessions: nothing to put together
    ((30000,), (1350,))
    """
    count = len(rows)
    ascending = bool((np.diff(rows) > 0).all())
    trials = np.unique(rows // chunk[0], return_counts=True)[1]
    session = int(trials.max(initial=1))
    # rows in another order than the store's belong to all sessions: avoid cutting them
    tall = min(count, BLOCK_SESSIONS * session) if ascending else count
    width = columns
    if count * columns * ITEM_BYTES > BLOCK_BYTES:
        width = BLOCK_BYTES // (ITEM_BYTES * tall)
        width = min(columns, max(1, width // chunk[1]) * chunk[1])
    height = min(max(count, 1), max(1, BLOCK_BYTES // (ITEM_BYTES * max(1, width))))
    step = session if ascending and (trials == session).all() else 1
    height = max(step, height // step * step)
    number = ceil(count / height) or 1
    return cut_rows(count, step * ceil(count / number / step)), cut_rows(columns, width)


def cut_rows(count: int, size: int) -> BlockSizes:
    """Sizes of blocks of ``size`` rows, the last one smaller; one empty block for no rows.

    >>> cut_rows(7, 3), cut_rows(0, 3)
    ((3, 3, 1), (0,))
    """
    whole, rest = divmod(count, size) if size else (0, 0)
    return (size,) * whole + ((rest,) if rest else ()) or (0,)


def read_response_block(
    rows: Index, columns: Index, *, arrays: SubjectArrays, zscore: str | bool
) -> NDArray[np.float32]:
    """Responses of some trials and voxels, in any order.

    Parameters
    ----------
    rows : (trial,) int
        Positions of trials.
    columns : (voxel,) int
        Positions of voxels.
    zscore : str or bool
        Key of :data:`nsdflow.store.query.zscoring.ZSCORINGS`.

    Returns
    -------
    (trial, voxel) float32
        (x - mean) / (std + 1e-6) with NaN -> 0; x in percent signal change without z-scoring.
    """
    return arrays.steady(lambda now: _read(arrays.translate(rows, now), columns, now, zscore))


def _read(rows: Index, columns: Index, arrays: SubjectArrays, zscore: str | bool) -> NDArray[np.float32]:
    trials, trial_order = _ascending(rows)
    voxels, voxel_order = _ascending(columns)
    values = ZSCORINGS[zscore].read(arrays, trials, voxels)
    if trial_order is not None:
        values = values[trial_order]
    return values if voxel_order is None else values[:, voxel_order]


def _ascending(positions: Index) -> tuple[Index, Index | None]:
    """Each position once, ascending, and the places of the given ones among these (None: they are the same)."""
    if (np.diff(positions) > 0).all():
        return positions, None
    return np.unique(positions, return_inverse=True)


def read_image_block(rows: Index, ids: Index, *, images: ShardedArray, named: bool) -> NDArray[np.uint8]:
    """Images (image, channel, y, x), in any order.

    Parameters
    ----------
    rows : (image, 1, 1, 1) int
        Positions of the images when the query was made.
    ids : (image, 1, 1, 1) int
        Their ``nsd_id``, by which they are found if the images of the store have changed; their positions if images
        have no ``nsd_id``.
    images : ShardedArray
        The images as they were when the query was made.
    named : bool
        Whether images have an ``nsd_id``.
    """
    group = images.url.rpartition("/")[0]

    def look() -> tuple[ShardedArray, bytes]:
        now = open_sharded(images.url)
        known = read_coordinate(group, "nsd_id") if named else np.arange(now.shape[0])
        return now, known.tobytes()

    def read(state: tuple[ShardedArray, bytes]) -> NDArray[np.uint8]:
        now, known = state[0], np.frombuffer(state[1], np.int64)
        wanted, asked = rows.ravel(), ids.ravel()
        if now != images or not np.array_equal(known[wanted], asked):
            wanted = np.searchsorted(known, asked)
            if now.shape[1:] != images.shape[1:] or (known[np.minimum(wanted, len(known) - 1)] != asked).any():
                raise StoreError(f"{images.url}: was replaced after this query was made; open the store again")
        positions, order = _ascending(wanted)
        values = read_region(now, (positions, None, None, None))
        return values if order is None else values[order]

    return steady(look, read)
