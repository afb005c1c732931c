"""What a task of a query does: read chunks and turn them into responses. Only paths and positions reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.names import BETAS_SCALE
from nsdflow.store.chunks import iter_chunks, read_region
from nsdflow.store.memory import fresh_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.store.shards import Index, ShardedArray

__all__ = ["EPSILON", "read_images", "read_responses", "to_percent"]

#: Added to the standard deviation, as published.
EPSILON: Final = np.float32(1e-6)


def to_percent(stored: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Percent signal change of betas as stored: int16 divided by 300, float32 as they are."""
    if stored.dtype.kind == "i":
        np.divide(stored, np.float32(round(1 / BETAS_SCALE)), out=out, dtype=np.float32, casting="unsafe")
    else:
        out[...] = stored


def read_responses(
    rows: Index, columns: Index, *, betas: ShardedArray, statistics: tuple[ShardedArray, ShardedArray] | None
) -> NDArray[np.float32]:
    """Responses of some trials of one session.

    Parameters
    ----------
    rows : (trial, 1) int
        Positions of trials of the same session, ascending.
    columns : (1, voxel) int
        Positions of voxels, ascending.
    betas : ShardedArray
        (trial, voxel), a session to a chunk.
    statistics : pair of ShardedArray, optional
        Mean and standard deviation (session, voxel) to z-score with.

    Returns
    -------
    (trial, voxel) float32
        (x - mean) / (std + 1e-6) with NaN -> 0, or x in percent signal change without statistics.
    """
    trials, voxels = rows.ravel(), columns.ravel()
    values = fresh_array((trials.size, voxels.size), np.float32)
    if not values.size:
        return values
    session = trials[:1] // betas.chunk[0]
    moments = [read_region(array, (session, voxels)) for array in statistics or ()]
    for piece in iter_chunks(betas, (trials, voxels)):
        block = values[piece.where]
        to_percent(piece.values, out=block)
        if moments:
            mean, std = (moment[:, piece.where[1]] for moment in moments)
            block -= mean
            block /= std + EPSILON
            if betas.dtype.kind == "f":  # integers have no NaN
                np.nan_to_num(block, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return values


def read_images(rows: Index, *, images: ShardedArray) -> NDArray[np.uint8]:
    """Images (image, channel, y, x) at some positions (image, 1, 1, 1), ascending."""
    return read_region(images, (rows.ravel(), None, None, None))
