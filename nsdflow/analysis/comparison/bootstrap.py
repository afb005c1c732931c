"""Whether one model predicts better than another: paired bootstrap over trials and over voxels."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nsdflow.analysis.alignment import align_trials, check_same_voxels
from nsdflow.analysis.moments import Floats, centred, resample_counts, resampled_correlation
from nsdflow.labels import described

__all__ = ["compare_predictions", "difference_interval"]


def compare_predictions(
    first: xr.DataArray, second: xr.DataArray, responses: xr.DataArray, *, resamples: int = 200, seed: int = 0
) -> xr.Dataset:
    """Difference in accuracy of two models on the same trials, by paired bootstrap.

    Parameters
    ----------
    first, second : xr.DataArray, (trial, voxel) or (image, voxel)
        Predictions, as for :func:`nsdflow.analysis.accuracy`.
    responses : xr.DataArray, (trial, voxel) or (image, voxel)
    resamples : int
        Bootstrap resamples of the trials. Both models are scored on the same resamples, so that variation between
        resamples cancels.
    seed : int

    Returns
    -------
    xr.Dataset, (voxel,)
        ``difference`` (second minus first, correlations of all trials), ``difference_std`` over the resamples, and
        ``better`` (the share of resamples in which the second is better). Lazy if an input is.

    Raises
    ------
    SelectionError
        As :func:`nsdflow.analysis.accuracy`.
    """
    one, measured = align_trials(first, responses)
    two, _ = align_trials(second, responses)
    check_same_voxels(one, two)
    counts = resample_counts(measured.sizes["trial"], resamples, seed)
    outputs = xr.apply_ufunc(
        _differences,
        one,
        two,
        measured,
        kwargs={"counts": counts},
        input_core_dims=[["trial"]] * 3,
        output_core_dims=[[], [], []],
        dask="parallelized",
        output_dtypes=[np.float64] * 3,
    )
    names = ("difference", "difference_std", "better")
    attrs = {"bootstrap_resamples": resamples, "bootstrap_seed": seed}
    return described(xr.Dataset(dict(zip(names, outputs, strict=True)), attrs=attrs))


def difference_interval(
    difference: Floats, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Interval of a mean difference over voxels, by bootstrap over the voxels (each pair stays together).

    Parameters
    ----------
    difference : array, (voxel,)
        NaN values are left out.
    level : float
        Share of the resamples that lie inside.
    resamples, seed : int

    Returns
    -------
    tuple of float
        Lower and upper end; NaN without voxels. The interval ignores that neighbouring voxels are correlated.
    """
    finite = difference[np.isfinite(difference)].astype(np.float64)
    if not finite.size:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = [finite[rng.integers(0, finite.size, finite.size)].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _differences(x: Floats, z: Floats, y: Floats, *, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Second minus first, its standard deviation, and the share above 0, for (..., trial)."""
    everything = np.ones((1, counts.shape[1]), counts.dtype)
    x, z = centred(x), centred(z)
    whole, drawn = resampled_correlation(y, everything), resampled_correlation(y, counts)
    difference = (whole(z) - whole(x))[..., 0].astype(np.float64)
    sampled = (drawn(z) - drawn(x)).astype(np.float64)
    return difference, sampled.std(-1), (sampled > 0).mean(-1)
