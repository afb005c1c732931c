"""What a task of a query does: reads chunks and turns them into responses. Only paths and positions reach it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from nsdflow.names import BETAS_SCALE
from nsdflow.store.chunks import read_region
from nsdflow.store.coordinates import read_coordinate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.store.shards import Index, ShardedArray

__all__ = ["EPSILON", "SessionStatistics", "TrainingStatistics", "read_images", "read_responses"]

#: Added to the standard deviation, as published; percent signal change.
EPSILON: Final = np.float32(1e-6)


@dataclass(frozen=True)
class SessionStatistics:
    """Z-scores with the stored mean and standard deviation of all trials of a session, as published."""

    mean: ShardedArray
    """(session, voxel) float32"""
    std: ShardedArray
    """(session, voxel) float32"""


@dataclass(frozen=True)
class TrainingStatistics:
    """Z-scores with mean and standard deviation of those trials of a session that show no shared image."""

    group: str
    """URL of the subject's group, whose coordinate ``shared`` says which trials these are."""


def read_responses(
    rows: Index, columns: Index, *, betas: ShardedArray, zscore: SessionStatistics | TrainingStatistics | None
) -> NDArray[np.float32]:
    """Responses of some trials and voxels, in any order.

    Parameters
    ----------
    rows : (trial, 1) int
        Positions of trials.
    columns : (1, voxel) int
        Positions of voxels.
    betas : ShardedArray
        (trial, voxel); a chunk holds one session.
    zscore : SessionStatistics or TrainingStatistics, optional
        What to z-score with.

    Returns
    -------
    (trial, voxel) float32
        (x - mean) / (std + 1e-6) with NaN -> 0; x in percent signal change without ``zscore``.
    """
    trials, trial_order = _ascending(rows.ravel())
    voxels, voxel_order = _ascending(columns.ravel())
    if isinstance(zscore, TrainingStatistics):
        values = _scored_on_training(betas, trials, voxels, zscore)
    else:
        values = _percent(betas, trials, voxels)
        if zscore is not None:
            _score(values, trials // betas.chunk[0], voxels, zscore)
            if betas.dtype.kind == "f":  # integers have no NaN
                np.nan_to_num(values, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
    if trial_order is not None:
        values = values[trial_order]
    return values if voxel_order is None else values[:, voxel_order]


def _ascending(positions: Index) -> tuple[Index, Index | None]:
    """Each position once, ascending, and where the given ones are among these (None: they are the same)."""
    if (np.diff(positions) > 0).all():
        return positions, None
    return np.unique(positions, return_inverse=True)


def _percent(betas: ShardedArray, trials: Index, voxels: Index) -> NDArray[np.float32]:
    """Percent signal change: stored integers divided by 300, in float32."""
    values = read_region(betas, (trials, voxels), dtype=np.float32)
    if betas.dtype.kind == "i":
        values /= np.float32(round(1 / BETAS_SCALE))
    return values


def _score(values: NDArray[np.float32], session: Index, voxels: Index, statistics: SessionStatistics) -> None:
    """Z-score in place; ``session`` (trial,) are rows of the statistics."""
    if not values.size:
        return
    numbers = np.unique(session)
    means = read_region(statistics.mean, (numbers, voxels))
    stds = read_region(statistics.std, (numbers, voxels)) + EPSILON
    for where, mean, std in zip(_runs(session), means, stds, strict=True):
        values[where] -= mean
        values[where] /= std


def _runs(session: Index) -> Iterator[slice]:
    """The stretches of ascending numbers that are the same."""
    bounds = [0, *(np.flatnonzero(np.diff(session)) + 1).tolist(), len(session)]
    return (slice(first, last) for first, last in pairwise(bounds) if first < last)


def _scored_on_training(
    betas: ShardedArray, trials: Index, voxels: Index, statistics: TrainingStatistics
) -> NDArray[np.float32]:
    """Z-scored session by session, in float64; zeros in a session without a training trial."""
    training = np.flatnonzero(~read_coordinate(statistics.group, "shared").astype(bool))
    length = betas.chunk[0]
    scored = np.zeros((len(trials), len(voxels)), np.float32)
    for where in _runs(trials // length):
        wanted = trials[where]
        first = wanted[0] // length * length
        fitted = training[(training >= first) & (training < first + length)]
        read = np.union1d(wanted, fitted)
        values = _percent(betas, read, voxels)
        seen = values[np.isin(read, fitted)].astype(np.float64)
        if len(seen):
            shown = (values[np.isin(read, wanted)] - seen.mean(axis=0)) / (seen.std(axis=0) + 1e-6)
            scored[where] = np.nan_to_num(shown, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return scored


def read_images(rows: Index, *, images: ShardedArray) -> NDArray[np.uint8]:
    """Images (image, channel, y, x) at some positions (image, 1, 1, 1), in any order."""
    positions, order = _ascending(rows.ravel())
    values = read_region(images, (positions, None, None, None))
    return values if order is None else values[order]
