"""Tuning: what each partition of a model's features (its layers, or halves) contributes to a voxel's accuracy.

The readout is linear in its weights, so a prediction is the sum of what the partitions of the features
contribute. "Inclusion" predicts with one partition alone, "exclusion" with all others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis.alignment import align_trials
from nsdflow.analysis.moments import centred, mean_and_std, resample_counts, resampled_correlation
from nsdflow.labels import described

__all__ = ["tuning", "variance_shares"]

Floats = NDArray[np.floating[Any]]

_CORRELATIONS = ("accuracy", "inclusion", "exclusion")


def tuning(contributions: xr.DataArray, responses: xr.DataArray, *, resamples: int = 64, seed: int = 0) -> xr.Dataset:
    """Accuracy with and without each partition of the features, and its unique and shared variance.

    Parameters
    ----------
    contributions : xr.DataArray, (trial, voxel, partition) or (image, voxel, partition)
        Sum over the partition's features of feature times weight; by ``image`` with coordinate ``nsd_id``. Over all
        partitions they add up to the prediction, without the bias, which no correlation depends on.
    responses : xr.DataArray, (trial, voxel)
        Validation responses.
    resamples, seed : int
        Bootstrap over trials, as in :func:`nsdflow.analysis.uncertainty`.

    Returns
    -------
    xr.Dataset
        ``accuracy`` (voxel,), ``inclusion`` and ``exclusion`` (partition, voxel): mean over the resamples of the
        correlation of the whole prediction, of the partition alone and of all others; ``*_std``, their standard
        deviations; and all variables of :func:`variance_shares`. Lazy along voxels if an input is.
    """
    parts, measured = align_trials(contributions, responses)
    parts = parts.chunk(partition=-1) if parts.chunks else parts
    counts = resample_counts(measured.sizes["trial"], resamples, seed)
    names = [name + suffix for name in _CORRELATIONS for suffix in ("", "_std")]
    outputs: tuple[xr.DataArray, ...] = xr.apply_ufunc(
        _bootstrap,
        parts,
        measured,
        kwargs={"counts": counts},
        input_core_dims=[["partition", "trial"], ["trial"]],
        output_core_dims=[[], [], *[["partition"]] * 4],
        dask="parallelized",
        output_dtypes=[np.float64] * 6,
    )
    correlations = described(xr.Dataset(dict(zip(names, outputs, strict=True)))).transpose("partition", "voxel")
    shares = variance_shares(correlations)
    return correlations.merge(shares).assign_attrs(bootstrap_resamples=resamples, bootstrap_seed=seed)


def variance_shares(correlations: xr.Dataset) -> xr.Dataset:
    r"""Unique and shared variance of each partition, in percent of the variance the whole model explains.

    With the accuracy c of the whole model and those of inclusion i and exclusion e,

    .. math:: \text{shared} = 100\, i^2 / c^2, \qquad \text{unique} = 100\, (c^2 - e^2) / c^2,

    each with the standard error of the ratio of squares,
    :math:`100\, (r^2 / c^2) \sqrt{(2 \sigma_r / r)^2 + (2 \sigma_c / c)^2}` for r = i or e.

    Parameters
    ----------
    correlations : xr.Dataset
        ``accuracy``, ``accuracy_std`` (voxel,), ``inclusion``, ``inclusion_std``, ``exclusion``, ``exclusion_std``
        (partition, voxel).

    Returns
    -------
    xr.Dataset
        ``shared`` and ``shared_error`` (partition, voxel), NaN where c = 0; ``shared_argmax`` (voxel,), the position of
        the largest, -1 where there is none; ``shared_spread`` (voxel,), how evenly the partitions share: the place in
        [0, 1] where the profile, sorted from the largest and scaled to [0, 1], falls through one half (0: one partition
        alone; 1: all but one alike). The same names with ``unique``.
    """
    c, c_std = (correlations[name] for name in ("accuracy", "accuracy_std"))
    c = c.where(c != 0)
    profiles = {}
    for kind, name in (("shared", "inclusion"), ("unique", "exclusion")):
        r, r_std = correlations[name], correlations[name + "_std"]
        share = 100 * r**2 / c**2
        error = 200 * abs(r) / c**2 * (r_std**2 + (r * c_std / c) ** 2) ** 0.5
        profiles[kind] = 100 - share if kind == "unique" else share
        profiles[kind + "_error"] = error
    shares = xr.Dataset(profiles)
    for kind in ("shared", "unique"):
        shares[kind + "_argmax"] = _along_partitions(_argmax, shares[kind], np.int64)
        shares[kind + "_spread"] = _along_partitions(_spread, shares[kind], np.float64)
    return described(shares)


def _bootstrap(parts: Floats, measured: Floats, *, counts: Floats) -> tuple[Floats, ...]:
    """Mean and standard deviation over resamples of the three correlations, for ``parts`` (..., partition, trial)."""
    correlate = resampled_correlation(measured, counts)
    parts = centred(parts)
    whole = parts.sum(-2)
    inclusion, exclusion = [], []
    for k in range(parts.shape[-2]):
        part = parts[..., k, :]
        inclusion.append(mean_and_std(correlate(part)))
        exclusion.append(mean_and_std(correlate(whole - part)))
    stacked = (np.stack(values, -1) for kind in (inclusion, exclusion) for values in zip(*kind, strict=True))
    return *mean_and_std(correlate(whole)), *stacked


def _along_partitions(function: Any, values: xr.DataArray, dtype: Any) -> xr.DataArray:
    result: xr.DataArray = xr.apply_ufunc(
        function, values, input_core_dims=[["partition"]], dask="parallelized", output_dtypes=[dtype]
    )
    return result


def _argmax(profile: Floats) -> NDArray[np.int64]:
    defined = ~np.isnan(profile)
    largest = np.where(defined, profile, -np.inf).argmax(-1)
    return np.where(defined.any(-1), largest, -1)


def _spread(profile: Floats) -> Floats:
    """Position at which the profile (..., partition), sorted from the largest and scaled to [0, 1], crosses 1/2."""
    falling = -np.sort(-profile, axis=-1)
    height = falling[..., :1] - falling[..., -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = (falling - falling[..., -1:]) / height
        after = (scaled < 0.5).argmax(-1)[..., None]
        above = np.take_along_axis(scaled, np.maximum(after - 1, 0), -1)
        below = np.take_along_axis(scaled, after, -1)
        crossing = after - 1 + (above - 0.5) / (above - below)
        spread: Floats = crossing[..., 0] / (profile.shape[-1] - 1)
    return spread
