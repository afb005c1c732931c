"""Sums over trials from which every metric is computed, for all voxels and all bootstrap resamples at once.

A bootstrap resample is a row of counts, which state how often each trial was drawn. A sum over a resample is then one
matrix product of counts and data, so that all resamples of all voxels cost a few products instead of a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Moments",
    "centred",
    "correlation",
    "correlation_of",
    "mean_and_std",
    "moments",
    "ratio",
    "resample_counts",
    "resampled_correlation",
    "resampled_moments",
]

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Moments:
    """Central sums over the trials of predictions x and responses y; arrays of any common shape."""

    xx: Floats
    """Sum of (x - mean x)²."""
    yy: Floats
    """Sum of (y - mean y)²."""
    xy: Floats
    """Sum of (x - mean x) (y - mean y)."""
    bias: Floats
    """mean x - mean y."""
    n: float
    """Number of trials; 1 where the sums are means."""


def moments(x: Floats, y: Floats) -> Moments:
    """Sums over the last axis of ``x`` and ``y`` (..., trial), in float64."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    bias = x.mean(-1) - y.mean(-1)
    x, y = centred(x), centred(y)
    return Moments((x * x).sum(-1), (y * y).sum(-1), (x * y).sum(-1), bias, x.shape[-1])


def correlation(x: Floats, y: Floats) -> Floats:
    """Pearson correlation of ``x`` and ``y`` (..., trial) over the last axis in float64; 0 where undefined."""
    x, y = centred(x.astype(np.float64)), centred(y.astype(np.float64))
    return correlation_of(Moments((x * x).sum(-1), (y * y).sum(-1), (x * y).sum(-1), np.zeros(()), x.shape[-1]))


def correlation_of(m: Moments) -> Floats:
    """Pearson correlation; 0 where either side is constant or holds a NaN."""
    return np.nan_to_num(ratio(m.xy, np.sqrt(m.xx * m.yy)), nan=0.0)


def centred(x: Floats) -> Floats:
    """``x`` (..., trial) minus its mean, with the trials of a voxel side by side in memory.

    A constant becomes exactly 0, because its first value is subtracted before the mean is formed. Whole numbers and
    half precision become float32 or float64 before that.
    """
    x = np.ascontiguousarray(x, np.result_type(x.dtype, np.float32))
    x = x - x[..., :1]
    centre: Floats = x - x.mean(-1, keepdims=True)
    return centre


def resample_counts(trials: int, resamples: int, seed: int) -> Floats:
    """Draw bootstrap resamples: counts (resample, trial) in float32, whose rows sum to ``trials``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(trials, np.full(trials, 1 / trials), size=resamples).astype(np.float32)


def resampled_moments(y: Floats, counts: Floats) -> Callable[[Floats, Any], Moments]:
    """Prepare the moments of any ``x`` with ``y`` (..., trial) in every resample.

    Parameters
    ----------
    y : array, (..., trial)
    counts : array, (resample, trial)
        See :func:`resample_counts`.

    Returns
    -------
    callable
        Takes ``x`` (..., trial), centred, and the difference of the means of x and y before centring (...); returns
        moments (..., resample). Products with ``y`` alone are made once for all ``x``.
    """
    y = centred(y)
    weights = (counts.T / counts.shape[1]).astype(y.dtype)
    mean_y = y @ weights
    variance_y = np.maximum((y * y) @ weights - mean_y**2, 0)

    def of(x: Floats, bias: Any = 0.0) -> Moments:
        mean_x = x @ weights
        variance_x = np.maximum((x * x) @ weights - mean_x**2, 0)
        covariance = (x * y) @ weights - mean_x * mean_y
        return Moments(variance_x, variance_y, covariance, np.asarray(bias)[..., None] + mean_x - mean_y, 1)

    return of


def resampled_correlation(y: Floats, counts: Floats) -> Callable[[Floats], Floats]:
    """A function of centred ``x`` (..., trial) that returns its correlation with ``y`` in every resample."""
    of = resampled_moments(y, counts)
    return lambda x: correlation_of(of(x, 0.0))


def mean_and_std(sampled: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (ddof 0) of ``sampled`` (..., resample) in float64."""
    return sampled.mean(-1, dtype=np.float64), sampled.std(-1, dtype=np.float64)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator``; NaN where that is not a finite number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Floats = np.asarray(numerator / denominator)
    return np.where(np.isfinite(quotient), quotient, np.asarray(np.nan, quotient.dtype))
