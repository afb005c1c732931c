"""Variance partitioning: unique and shared variance of bands of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from nsdflow.analysis.alignment import align_trials, as_labelled
from nsdflow.analysis.moments import Floats, centred, ratio, resample_counts
from nsdflow.errors import SelectionError
from nsdflow.labels import described

__all__ = ["variance_partition"]

_NAMES = ("explained_variance", "shared_variance", "unique_variance", "product_variance")


def variance_partition(
    contributions: xr.DataArray,
    responses: xr.DataArray,
    *,
    without: xr.DataArray | None = None,
    dim: str = "band",
    resamples: int = 64,
    seed: int = 0,
) -> xr.Dataset:
    r"""Unique and shared explained variance of bands of features, for any model that is a sum over bands.

    With the contributions :math:`p_b` of the bands, the prediction :math:`p = \sum_b p_b` and the responses y, all
    centred, the explained variance is :math:`R^2 = 1 - \|y - p\|^2 / \|y\|^2`. It is divided in two ways:

    .. math:: \text{unique}_b = R^2 - R^2_{-b}, \quad \text{shared} = R^2 - \sum_b \text{unique}_b; \qquad
        \text{product}_b = p_b^\top (2 y - p) / \|y\|^2, \quad \sum_b \text{product}_b = R^2.

    Parameters
    ----------
    contributions : xr.DataArray, (trial, voxel, band) or (image, voxel, band)
        Part of the prediction that each band contributes: bands of a banded ridge, layers of a GNet readout, ...
    responses : xr.DataArray, (trial, voxel) or (image, voxel)
        Responses that the model was not fitted on.
    without : xr.DataArray, (trial, voxel, band) or (image, voxel, band), optional
        Predictions of models fitted without each band: leave one out in the strict sense. By default the contribution
        of the band is subtracted from the prediction, without another fit; this overestimates what is unique where
        bands are correlated.
    dim : str
        Name of the dimension of the bands (``partition`` for :func:`nsdflow.analysis.tuning`'s layers).
    resamples, seed : int
        Bootstrap over trials, shared by all voxels; 0 leaves out the errors.

    Returns
    -------
    xr.Dataset
        ``explained_variance`` and ``shared_variance`` (voxel,), ``unique_variance`` and ``product_variance``
        (band, voxel), as shares of the variance of the responses; ``*_std``, their standard deviations over the
        resamples. NaN where the responses are constant. Lazy along voxels if an input is.

    Raises
    ------
    SelectionError
        ``contributions`` have no such dimension, or trials, images, voxels or bands differ.
    """
    rows = "image" if "image" in getattr(responses, "dims", ()) else "trial"
    contributions = as_labelled(contributions, (rows, "voxel", dim))
    if dim not in contributions.dims:
        raise SelectionError(
            f"contributions have no dimension {dim!r}; they have {', '.join(map(str, contributions.dims))}"
        )
    parts, measured = align_trials(contributions, responses)
    if without is None:
        rest = parts.sum(dim) - parts
    else:
        rest, _ = align_trials(without, responses)
        if rest.sizes.get(dim) != parts.sizes[dim]:
            raise SelectionError(f"without has {rest.sizes.get(dim, 0)} {dim}s and contributions {parts.sizes[dim]}")
    parts, rest = (values.chunk({dim: -1}) if values.chunks else values for values in (parts, rest))
    counts = resample_counts(measured.sizes["trial"], resamples, seed) if resamples else None
    names = [name + suffix for suffix in ("", "_std") for name in _NAMES][: 8 if resamples else 4]
    outputs: tuple[xr.DataArray, ...] = xr.apply_ufunc(
        _partition,
        parts,
        rest,
        measured,
        kwargs={"counts": counts},
        input_core_dims=[[dim, "trial"], [dim, "trial"], ["trial"]],
        output_core_dims=[[] if k % 4 < 2 else [dim] for k in range(len(names))],
        dask="parallelized",
        output_dtypes=[np.float64] * len(names),
    )
    attrs = {"bootstrap_resamples": resamples, "bootstrap_seed": seed}
    return described(xr.Dataset(dict(zip(names, outputs, strict=True)), attrs=attrs)).transpose(dim, ...)


def _partition(parts: Floats, rest: Floats, y: Floats, *, counts: Floats | None) -> tuple[Floats, ...]:
    """``parts``, ``rest`` (..., band, trial), ``y`` (..., trial); values, then their standard deviations."""
    everything = np.full((1, y.shape[-1]), 1 / y.shape[-1])
    values = [value[..., 0] for value in _shares(parts, rest, y, everything)]
    if counts is None:
        return tuple(values)
    weights = counts.astype(np.float64) / counts.shape[1]
    return *values, *(sampled.std(-1) for sampled in _shares(parts, rest, y, weights))


def _shares(parts: Floats, rest: Floats, y: Floats, weights: Floats) -> list[Floats]:
    """The four quantities, with a last axis for the rows of ``weights`` (resample, trial), whose rows sum to 1."""
    covariance = _covariances(weights)
    parts, rest, y = (centred(values.astype(np.float64)) for values in (parts, rest, y))
    whole = parts.sum(-2)
    total = covariance(y, y)
    explained = 2 * covariance(whole, y) - covariance(whole, whole)
    product, unique = [], []
    for band in range(parts.shape[-2]):
        part, other = parts[..., band, :], rest[..., band, :]
        product.append(2 * covariance(part, y) - covariance(part, whole))
        unique.append(explained - (2 * covariance(other, y) - covariance(other, other)))
    shared = explained - np.sum(unique, axis=0)
    scaled = [ratio(values, total) for values in (explained, shared)]
    return [*scaled, *(ratio(np.stack(values, -2), total[..., None, :]) for values in (unique, product))]


def _covariances(weights: Floats) -> Any:
    """A function of two centred arrays (..., trial): their covariance in every resample (..., resample)."""
    columns = np.ascontiguousarray(weights.T)

    def covariance(a: Floats, b: Floats) -> Floats:
        result: Floats = (a * b) @ columns - (a @ columns) * (b @ columns)
        return result

    return covariance
