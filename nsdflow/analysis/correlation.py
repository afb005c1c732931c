"""Prediction accuracy of each voxel, and its uncertainty by bootstrap over trials.

A resample of trials is a row of counts: how often it drew each trial. Every sum over a resample is then one
matrix product of counts and data, so that all resamples of all voxels cost a few products instead of a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis.alignment import align_trials

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "accuracy",
    "centred",
    "correlation",
    "mean_and_std",
    "resample_counts",
    "resampled_correlation",
    "uncertainty",
]

Floats = NDArray[np.floating[Any]]


def accuracy(predictions: xr.DataArray, responses: xr.DataArray) -> xr.DataArray:
    r"""Pearson correlation of predicted and measured responses over single trials, voxel by voxel.

    .. math:: r_v = \frac{\sum_t (p_{tv} - \bar p_v)(y_{tv} - \bar y_v)}
                         {\sqrt{\sum_t (p_{tv} - \bar p_v)^2 \sum_t (y_{tv} - \bar y_v)^2}}

    Parameters
    ----------
    predictions : (trial, voxel), or (image, voxel) with coordinate ``nsd_id``, which is then looked up for each
        trial. Any scale, lazy or not.
    responses : (trial, voxel), with coordinate ``nsd_id`` where predictions are by image. Any scale.

    Returns
    -------
    (voxel,) in [-1, 1]; 0 where either side is constant or holds a NaN, as published. Lazy if an input is.

    Raises
    ------
    SelectionError
        A trial shows an image without a prediction, or the voxels are not the same.
    """
    predicted, measured = align_trials(predictions, responses)
    result: xr.DataArray = xr.apply_ufunc(
        correlation,
        predicted,
        measured,
        input_core_dims=[["trial"], ["trial"]],
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return result.rename("accuracy").assign_attrs(long_name="Pearson correlation over trials", units="1")


def uncertainty(
    predictions: xr.DataArray, responses: xr.DataArray, *, resamples: int = 64, seed: int = 0
) -> xr.Dataset:
    """Mean and standard deviation of :func:`accuracy` over bootstrap resamples of the trials.

    Parameters
    ----------
    predictions, responses : as for :func:`accuracy`.
    resamples : number of times as many trials as there are were drawn with replacement.
    seed : of the draw; all voxels share the resamples, so chunks never change a value.

    Returns
    -------
    ``accuracy_mean`` and ``accuracy_std`` (voxel,), the latter with ddof 0. Lazy if an input is.
    """
    predicted, measured = align_trials(predictions, responses)
    counts = resample_counts(measured.sizes["trial"], resamples, seed)
    mean, std = xr.apply_ufunc(
        _resampled_accuracy,
        predicted,
        measured,
        kwargs={"counts": counts},
        input_core_dims=[["trial"], ["trial"]],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[np.float64, np.float64],
    )
    bootstrap = {"bootstrap_resamples": resamples, "bootstrap_seed": seed}
    return xr.Dataset({"accuracy_mean": mean, "accuracy_std": std}, attrs=bootstrap)


def correlation(x: Floats, y: Floats) -> Floats:
    """Pearson correlation of ``x`` and ``y`` (..., trial) over the last axis in float64; undefined gives 0."""
    x, y = centred(x.astype(np.float64)), centred(y.astype(np.float64))
    return _ratio((x * y).sum(-1), np.sqrt((x * x).sum(-1) * (y * y).sum(-1)))


def centred(x: Floats) -> Floats:
    """``x`` (..., trial) less its mean, with the trials of a voxel side by side in memory.

    A constant becomes exactly 0, because its first value is taken off before the mean is formed.
    """
    x = np.ascontiguousarray(x)
    x = x - x[..., :1]
    centre: Floats = x - x.mean(-1, keepdims=True)
    return centre


def resample_counts(trials: int, resamples: int, seed: int) -> Floats:
    """How often each bootstrap resample drew each trial: (resample, trial), float32, rows sum to ``trials``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(trials, np.full(trials, 1 / trials), size=resamples).astype(np.float32)


def resampled_correlation(y: Floats, counts: Floats) -> Callable[[Floats], Floats]:
    """A function of centred ``x`` (..., trial) that gives its correlation with ``y`` in every resample.

    ``y`` (..., trial) is any; the result has shape (..., resample). Means over a resample are products with
    ``counts`` (resample, trial); those of ``y`` are made once for however many ``x`` follow.
    """
    weights = (counts.T / counts.shape[1]).astype(y.dtype)
    y = centred(y)
    mean_y = y @ weights
    variance_y = (y * y) @ weights - mean_y**2

    def correlate(x: Floats) -> Floats:
        mean_x = x @ weights
        variance_x = (x * x) @ weights - mean_x**2
        covariance = (x * y) @ weights - mean_x * mean_y
        return _ratio(covariance, np.sqrt(np.maximum(variance_x, 0) * np.maximum(variance_y, 0)))

    return correlate


def mean_and_std(sampled: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (ddof 0) of ``sampled`` (..., resample) in float64."""
    return sampled.mean(-1, dtype=np.float64), sampled.std(-1, dtype=np.float64)


def _resampled_accuracy(x: Floats, y: Floats, *, counts: Floats) -> tuple[Floats, Floats]:
    return mean_and_std(resampled_correlation(y, counts)(centred(x)))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator``, and 0 where that is not a finite number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.nan_to_num(numerator / denominator, nan=0.0, posinf=0.0, neginf=0.0)
    return ratio
