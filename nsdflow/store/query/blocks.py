"""Lazy blocks of a query: cut by bytes, in whole sessions if the selection allows it.

Few large blocks keep graphs small and leave Dask little to put together. All blocks of an axis have the same size
(the last may be smaller), since Zarr accepts nothing else when a query is written.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK_BYTES", "cut_rows", "cut_table"]

#: A lazy block of float32 responses holds about this many bytes at most.
BLOCK_BYTES: Final = 256 << 20
#: Sessions that a block holds at least where it cannot hold all voxels: a selection that takes different numbers of
#: trials from the sessions does not fit their boundaries, and reads the session at each boundary twice.
BLOCK_SESSIONS: Final = 8
#: Bytes of a float32.
ITEM_BYTES: Final = 4

Sizes = tuple[int, ...]


def cut_table(rows: NDArray[np.intp], columns: int, chunk: tuple[int, int]) -> tuple[Sizes, Sizes]:
    """Sizes of the blocks of responses along both axes.

    Parameters
    ----------
    rows : (trial,) int
        Positions of the trials that are asked for, in the order of the result.
    columns : int
        Number of voxels.
    chunk : tuple of int
        Trials (one session) and voxels of a stored chunk.

    Returns
    -------
    tuple of int, tuple of int
        Along ``trial`` and along ``voxel``.

    Examples
    --------
    >>> cut_table(np.arange(30_000), 1350, (750, 1000))  # V1 of 40 sessions: nothing to put together
    ((30000,), (1350,))
    """
    count = len(rows)
    ascending = bool((np.diff(rows) > 0).all())
    trials = np.unique(rows // chunk[0], return_counts=True)[1]
    session = int(trials.max(initial=1))
    # rows in another order than the store's belong to all sessions: they are not cut if that can be avoided
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


def cut_rows(count: int, size: int) -> Sizes:
    """Sizes of blocks of ``size`` rows, the last one smaller; one empty block for no rows.

    >>> cut_rows(7, 3), cut_rows(0, 3)
    ((3, 3, 1), (0,))
    """
    whole, rest = divmod(count, size) if size else (0, 0)
    return (size,) * whole + ((rest,) if rest else ()) or (0,)
