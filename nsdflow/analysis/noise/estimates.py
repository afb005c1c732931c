"""Signal and noise estimated from repetitions: ncsnr from betas, and split-half reliability."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nsdflow.analysis.moments import Floats, correlation
from nsdflow.errors import SelectionError, one_of
from nsdflow.labels import described

__all__ = ["estimate_ncsnr", "reliability"]


def estimate_ncsnr(responses: xr.DataArray, *, total: Literal["measured", "unit"] = "measured") -> xr.DataArray:
    r"""Noise-ceiling signal-to-noise ratio from single trials, for any sessions and unequal repetitions.

    With the variance :math:`\hat\sigma_i^2` (ddof 1) over the :math:`n_i` trials of image i,

    .. math:: \sigma_n^2 = \frac{\sum_i (n_i - 1)\,\hat\sigma_i^2}{\sum_i (n_i - 1)}, \qquad
        \sigma_s^2 = \max(0, \sigma_{total}^2 - \sigma_n^2), \qquad \mathrm{ncsnr} = \sigma_s / \sigma_n.

    Parameters
    ----------
    responses : xr.DataArray, (trial, voxel)
        Single trials with coordinate ``nsd_id``. Images shown once contribute only to the total variance; an image with
        a NaN in one of its trials is left out.
    total : {"measured", "unit"}
        Total variance: that of all trials (ddof 1), or 1 as in NSD's own files, for responses z-scored per session.

    Returns
    -------
    xr.DataArray, (voxel,)
        ``ncsnr``, NaN where nothing can be estimated; lazy if the input is. Use it with
        ``noise_ceiling(ncsnr, repeats)``, where ``repeats`` are the numbers of trials of the images that are averaged.

    Raises
    ------
    SelectionError
        The responses have no ``nsd_id``, or no image was shown twice.

    Notes
    -----
    NSD z-scores with ddof 1 and pools the plain mean of the variances over images with three trials, which is the
    same for equal :math:`n_i`. Repetitions of ``betas_fithrf_GLMdenoise_RR`` are not fully independent (the ridge
    fraction is chosen by cross-validation over them), which makes its ncsnr slightly optimistic.
    """
    if total not in ("measured", "unit"):
        raise one_of("total variance", total, ("measured", "unit"))
    order, starts = _by_image(responses)
    result: xr.DataArray = xr.apply_ufunc(
        _ncsnr,
        _bare(responses),
        kwargs={"order": order, "starts": starts, "unit": total == "unit"},
        input_core_dims=[["trial"]],
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return described(result.rename("ncsnr")).assign_attrs(trials=int(order.size))


def reliability(responses: xr.DataArray, *, splits: int = 20, seed: int = 0, corrected: bool = True) -> xr.DataArray:
    r"""Split-half reliability: correlation over images of the averages of two halves of their trials.

    Each split divides the :math:`n_i \ge 2` trials of an image at random into two halves of
    :math:`m_i = \lfloor n_i / 2 \rfloor` trials. The correlation r, averaged over the splits, is corrected to the
    average of all trials by the Spearman-Brown formula

    .. math:: \frac{k r}{1 + (k - 1) r}, \qquad k = \overline{1/m_i} \, / \, \overline{1/n_i}.

    Parameters
    ----------
    responses : xr.DataArray, (trial, voxel)
        Single trials with coordinate ``nsd_id``. Images shown once are left out.
    splits : int
        Number of random splits.
    seed : int
        Seed of the splits, which all voxels share.
    corrected : bool
        False returns the correlation of the halves.

    Returns
    -------
    xr.DataArray, (voxel,)
        Reliability of the averaged images, -1 at least; its square root is the ceiling of a correlation with them. Lazy
        if the input is; 0 where a voxel is constant or NaN.

    Raises
    ------
    SelectionError
        The responses have no ``nsd_id``, no image was shown twice, or ``splits`` is less than 1.
    """
    if splits < 1:
        raise SelectionError(f"splits must be 1 or more, not {splits}")
    order, starts = _by_image(responses)
    counts = np.diff(np.append(starts, order.size))
    halves = _halves(order, counts, splits, seed)
    repeated = counts[counts > 1]
    k = float((1 / (repeated // 2)).mean() / (1 / repeated).mean()) if corrected else 1.0
    result: xr.DataArray = xr.apply_ufunc(
        _split_half,
        _bare(responses),
        kwargs={"halves": halves, "k": k},
        input_core_dims=[["trial"]],
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    return described(result.rename("reliability")).assign_attrs(splits=splits)


def _by_image(responses: xr.DataArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Trials sorted by image, and where each image starts."""
    if not isinstance(responses, xr.DataArray) or "trial" not in responses.dims or "nsd_id" not in responses.coords:
        raise SelectionError("noise is estimated from single trials with the coordinate nsd_id; responses() gives both")
    ids = np.asarray(responses["nsd_id"])
    order = np.argsort(ids, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(ids[order]) != 0])
    if starts.size == ids.size:
        raise SelectionError("no image was shown twice, so noise cannot be separated from signal; select more trials")
    return order, starts


def _bare(responses: xr.DataArray) -> xr.DataArray:
    bare = responses.drop_vars([name for name, c in responses.coords.items() if "trial" in c.dims])
    return bare.chunk(trial=-1) if bare.chunks else bare


def _ncsnr(x: Floats, *, order: NDArray[np.intp], starts: NDArray[np.intp], unit: bool) -> Floats:
    """x (..., trial)."""
    x = x[..., order].astype(np.float64)
    counts = np.diff(np.append(starts, order.size))
    means = np.add.reduceat(x, starts, axis=-1) / counts
    squares = np.add.reduceat((x - np.repeat(means, counts, axis=-1)) ** 2, starts, axis=-1)
    known = np.isfinite(squares)
    freedom = (known * (counts - 1)).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.where(known, squares, 0).sum(-1) / freedom
        variance = 1.0 if unit else _variance(x, np.repeat(known, counts, axis=-1))
        ratio: Floats = np.sqrt(np.maximum(variance - noise, 0)) / np.sqrt(noise)
    return np.where((freedom > 0) & (noise > 0), ratio, np.nan)


def _variance(x: Floats, known: NDArray[np.bool_]) -> Floats:
    """Variance (ddof 1) of the known values of x (..., trial)."""
    n = known.sum(-1, keepdims=True)
    deviation = np.where(known, x - np.where(known, x, 0).sum(-1, keepdims=True) / n, 0)
    variance: Floats = (deviation**2).sum(-1) / (n[..., 0] - 1)
    return variance


def _halves(
    order: NDArray[np.intp], counts: NDArray[np.intp], splits: int, seed: int
) -> list[tuple[csr_array, csr_array]]:
    """For each split two matrices (trial, image) that average the trials of either half."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(counts.size), counts)
    column = np.cumsum(counts > 1) - 1
    within = np.arange(order.size) - np.repeat(np.cumsum(counts) - counts, counts)
    half = counts // 2
    shape = (order.size, int((counts > 1).sum()))
    pairs = []
    for _ in range(splits):
        shuffled = order[np.lexsort((rng.random(order.size), image))]
        first, second = within < half[image], (within >= half[image]) & (within < 2 * half[image])
        matrices = [
            csr_array((1 / half[image[side]], (shuffled[side], column[image[side]])), shape=shape)
            for side in (first, second)
        ]
        pairs.append((matrices[0], matrices[1]))
    return pairs


def _split_half(x: Floats, *, halves: list[tuple[csr_array, csr_array]], k: float) -> Floats:
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    r: Any = np.mean([correlation(rows @ one, rows @ two) for one, two in halves], axis=0)
    # with few images r can come near -1, where the formula has no value
    corrected: Floats = np.maximum(k * r / np.maximum(1 + (k - 1) * r, 1e-12), -1).reshape(x.shape[:-1])
    return corrected
