"""What a task of a query does: read chunks and turn them into responses. Only paths and positions reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from nsdflow.names import BETAS_SCALE
from nsdflow.store.chunks import read_region
from nsdflow.store.memory import fresh_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.store.shards import Index, ShardedArray

__all__ = ["EPSILON", "read_images", "read_responses"]

#: Added to the standard deviation, as published.
EPSILON: Final = np.float32(1e-6)


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
    chosen = rows.ravel(), columns.ravel()
    stored = read_region(betas, chosen)
    values = fresh_array(stored.shape, np.float32)
    values[...] = stored
    if stored.dtype.kind == "i":
        values /= np.float32(round(1 / BETAS_SCALE))
    if statistics and values.size:
        session = chosen[0][:1] // betas.chunk[0]
        mean, std = (read_region(array, (session, chosen[1])) for array in statistics)
        values -= mean
        values /= std + EPSILON
        if stored.dtype.kind == "f":  # integers have no NaN
            np.nan_to_num(values, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return values


def read_images(rows: Index, *, images: ShardedArray) -> NDArray[np.uint8]:
    """Images (image, channel, y, x) at some positions (image, 1, 1, 1), ascending."""
    return read_region(images, (rows.ravel(), None, None, None))
