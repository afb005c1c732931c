"""Ways to z-score responses: one record per way, with its arithmetic and the attributes of its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.names import BETAS_SCALE, ZSCORE_EPSILON
from nsdflow.store.chunks import read_region
from nsdflow.store.coordinates import read_coordinate
from nsdflow.store.query.arrays import SubjectArrays
from nsdflow.store.schema import UNITS
from nsdflow.store.shard_format import Index

__all__ = ["ZSCORINGS", "ZScoring"]


@dataclass(frozen=True)
class ZScoring:
    """One way to z-score the responses of a query."""

    read: Callable[[SubjectArrays, Index, Index], NDArray[np.float32]]
    """Read (trial, voxel) responses at ascending positions of trials and of voxels."""
    long_name: str
    """Attribute of the result."""
    units: str = "1"
    """Attribute of the result."""
    stored_statistics: bool = False
    """Whether ``beta_mean`` and ``beta_std`` are read, which :meth:`nsdflow.store.Store.explain` counts."""
    training_trials: bool = False
    """Whether it reads training trials, which sister experiments do not have."""


def _unscored(arrays: SubjectArrays, trials: Index, voxels: Index) -> NDArray[np.float32]:
    """Percent signal change."""
    return _percent(arrays, trials, voxels)


def _within_session(arrays: SubjectArrays, trials: Index, voxels: Index) -> NDArray[np.float32]:
    """(x - mean) / (std + 1e-6) with the stored statistics of each session, and NaN -> 0."""
    session = trials // arrays.betas.chunk[0]
    statistics = _statistics(arrays, np.unique(session), voxels)
    is_float = arrays.betas.dtype.kind == "f"

    def score(values: NDArray[np.float32], first: int) -> None:
        mean, std = statistics[int(session[first])]
        values -= mean
        values /= std
        if is_float:  # integers have no NaN
            np.nan_to_num(values, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)

    return _percent(arrays, trials, voxels, score)


def _on_training_trials(arrays: SubjectArrays, trials: Index, voxels: Index) -> NDArray[np.float32]:
    """Z-score session by session, in float64; zeros in a session without a training trial."""
    training = np.flatnonzero(~read_coordinate(arrays.group, "shared").astype(bool))
    length = arrays.betas.chunk[0]
    scored = np.zeros((len(trials), len(voxels)), np.float32)
    for where in _runs(trials // length):
        wanted = trials[where]
        first = wanted[0] // length * length
        fitted = training[(training >= first) & (training < first + length)]
        read = np.union1d(wanted, fitted)
        values = _percent(arrays, read, voxels)
        seen = values[np.isin(read, fitted)].astype(np.float64)
        if len(seen):
            shown = (values[np.isin(read, wanted)] - seen.mean(axis=0)) / (seen.std(axis=0) + ZSCORE_EPSILON)
            scored[where] = np.nan_to_num(shown, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return scored


#: Ways to z-score by the value of ``zscore`` in a query.
ZSCORINGS: Final[Mapping[str | bool, ZScoring]] = {
    "session": ZScoring(_within_session, "response, z-scored within session", stored_statistics=True),
    "training": ZScoring(
        _on_training_trials, "response, z-scored with the session's training trials", training_trials=True
    ),
    False: ZScoring(_unscored, "response", units=UNITS),
}


def _percent(
    arrays: SubjectArrays,
    trials: Index,
    voxels: Index,
    then: Callable[[NDArray[np.float32], int], None] | None = None,
) -> NDArray[np.float32]:
    """Percent signal change: stored integers divided by 300, in float32.

    ``then(values, first)`` processes the trials of one session, the first of which is the trial ``first`` of the
    result. It works in place as soon as a session is read, while the processor's cache holds it.
    """
    is_integer = arrays.betas.dtype.kind == "i"

    def finish(values: NDArray[np.float32], first: int) -> None:
        if is_integer:
            values /= np.float32(round(1 / BETAS_SCALE))
        if then is not None:
            then(values, first)

    return read_region(arrays.betas, (trials, voxels), dtype=np.float32, finish=finish)


def _statistics(arrays: SubjectArrays, numbers: Index, voxels: Index) -> dict[int, tuple[NDArray[np.float32], ...]]:
    """Means, and standard deviations + 1e-6, of some sessions by their row."""
    if not len(numbers):
        return {}
    means = read_region(arrays.mean, (numbers, voxels))
    stds = read_region(arrays.std, (numbers, voxels)) + np.float32(ZSCORE_EPSILON)
    return dict(zip(numbers.tolist(), zip(means, stds, strict=True), strict=True))


def _runs(session: Index) -> Iterator[slice]:
    """Slices of equal values in an ascending array."""
    bounds = [0, *(np.flatnonzero(np.diff(session)) + 1).tolist(), len(session)]
    return (slice(first, last) for first, last in pairwise(bounds) if first < last)
