"""The tasks of a query: they read chunks and return responses. Their arguments are paths and positions alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from nsdflow.errors import StoreError
from nsdflow.io.read import read_metadata
from nsdflow.names import BETAS_SCALE
from nsdflow.store.chunks import read_region
from nsdflow.store.coordinates import read_coordinate
from nsdflow.store.query.zscoring import ZSCORINGS
from nsdflow.store.shards import open_sharded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.store.shards import Index, ShardedArray

__all__ = ["SubjectArrays", "read_images", "read_responses"]

@dataclass(frozen=True)
class SubjectArrays:
    """The arrays of a subject as they were when a query was made.

    A store can grow afterwards: sessions are added, and the rows of others move. Positions of a query are therefore
    those of ``sessions``, and are translated when the group has other sessions by the time it is read.
    """

    group: str
    """Path or URL of the group."""
    sessions: tuple[int, ...]
    """Session numbers in the order of their rows; empty where the group does not say."""
    betas: ShardedArray
    """(trial, voxel); a chunk holds one session."""
    mean: ShardedArray
    """(session, voxel) float32"""
    std: ShardedArray
    """(session, voxel) float32"""

    @classmethod
    def open(cls, group: str) -> SubjectArrays:
        """Read the metadata of a group."""
        arrays = (open_sharded(f"{group}/{name}") for name in ("betas", "beta_mean", "beta_std"))
        return cls(group, _sessions(group), *arrays)

    def current(self) -> SubjectArrays:
        """The same if nothing changed, otherwise the arrays as they are now."""
        return self if _sessions(self.group) == self.sessions else SubjectArrays.open(self.group)

    def translate(self, trials: Index, now: SubjectArrays) -> Index:
        """Where trials of these arrays are in the arrays of a store that has grown.

        Raises
        ------
        StoreError
            A session is gone, or the voxels are others.
        """
        if now is self:
            return trials
        length = self.betas.chunk[0]
        same = (now.betas.chunk[0], now.betas.shape[1]) == (length, self.betas.shape[1])
        if not same or not set(self.sessions) <= set(now.sessions):
            raise StoreError(f"{self.group}: was replaced after this query was made; open the store again")
        row = np.array([now.sessions.index(session) for session in self.sessions], np.intp)
        return row[trials // length] * length + trials % length


def _sessions(group: str) -> tuple[int, ...]:
    try:
        return tuple(read_metadata(f"{group}/zarr.json").get("attributes", {}).get("sessions", ()))
    except FileNotFoundError as error:
        raise StoreError(f"{group}: missing; the store is incomplete, ingest again") from error


def read_responses(rows: Index, columns: Index, *, arrays: SubjectArrays, zscore: str | bool) -> NDArray[np.float32]:
    """Responses of some trials and voxels, in any order.

    Parameters
    ----------
    rows : (trial, 1) int
        Positions of trials.
    columns : (1, voxel) int
        Positions of voxels.
    arrays : SubjectArrays
        The arrays to which the positions belong.
    zscore : {"session", "training", False}
        Key of :data:`nsdflow.store.query.zscoring.ZSCORINGS`.

    Returns
    -------
    (trial, voxel) float32
        (x - mean) / (std + 1e-6) with NaN -> 0; x in percent signal change without z-scoring.
    """
    for last in (False, False, True):
        now = arrays.current()
        try:
            values = _read(arrays.translate(rows.ravel(), now), columns.ravel(), now, zscore)
        except StoreError:
            if last or arrays.current() == now:
                raise
            continue
        if last or arrays.current() == now:  # the store did not grow meanwhile
            return values
    raise AssertionError("unreachable")


def _read(rows: Index, columns: Index, arrays: SubjectArrays, zscore: str | bool) -> NDArray[np.float32]:
    trials, trial_order = _ascending(rows)
    voxels, voxel_order = _ascending(columns)
    values = ZSCORINGS[zscore].read(arrays, trials, voxels)
    if trial_order is not None:
        values = values[trial_order]
    return values if voxel_order is None else values[:, voxel_order]


def _ascending(positions: Index) -> tuple[Index, Index | None]:
    """Each position once, ascending, and where the given ones are among these (None: they are the same)."""
    if (np.diff(positions) > 0).all():
        return positions, None
    return np.unique(positions, return_inverse=True)


def read_images(rows: Index, ids: Index, *, images: ShardedArray) -> NDArray[np.uint8]:
    """Images (image, channel, y, x), in any order.

    Parameters
    ----------
    rows : (image, 1, 1, 1) int
        Positions of the images when the query was made.
    ids : (image, 1, 1, 1) int
        Their ``nsd_id``, by which they are found when the store has other images by now.
    images : ShardedArray
        The images as they were when the query was made.
    """
    wanted, now = rows.ravel(), open_sharded(images.url)
    if now.shape != images.shape:
        known = read_coordinate(images.url.rpartition("/")[0], "nsd_id")
        wanted = np.searchsorted(known, ids.ravel())
        if (known[np.minimum(wanted, len(known) - 1)] != ids.ravel()).any():
            raise StoreError(f"{images.url}: was replaced after this query was made; open the store again")
    positions, order = _ascending(wanted)
    values = read_region(now, (positions, None, None, None))
    return values if order is None else values[order]
