"""Noise ceilings from NSD's noise-ceiling signal-to-noise ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsdflow.analysis.alignment import as_labelled
from nsdflow.errors import SelectionError
from nsdflow.labels import described

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import ArrayLike

__all__ = ["explainable_variance", "noise_ceiling"]


def noise_ceiling(ncsnr: xr.DataArray, repeats: ArrayLike | xr.DataArray | None = None) -> xr.DataArray:
    r"""Best correlation that any model of the image alone can reach.

    The square root of :func:`explainable_variance`:

    .. math:: \sqrt{s^2 / (s^2 + \overline{1/k})}.

    Parameters
    ----------
    ncsnr : xr.DataArray
        (voxel,) signal-to-noise ratios s (standard deviation of the signal over that of the noise of one trial), 0 or
        more; NaN stays NaN. Or responses, (trial, voxel) or (image, voxel), with the coordinate ``ncsnr``.
    repeats : int, array of int or xr.DataArray, optional
        Trials k averaged per image: one number, or one per image where images were seen unequally often. By default
        the coordinate ``repetitions`` of responses averaged by image, and otherwise 1: the ceiling of single trials.

    Returns
    -------
    xr.DataArray, (voxel,)
        In [0, 1]; same dtype and coordinates, lazy if the input is.

    Raises
    ------
    ValueError
        An image has fewer than one trial.
    SelectionError
        Responses without the coordinate ``ncsnr``, or averages without ``repetitions``.

    Examples
    --------
    >>> import xarray as xr
    >>> from nsdflow.analysis import noise_ceiling
    >>> float(noise_ceiling(xr.DataArray(1.0), 3)) ** 2
    0.75
    """
    ceiling = explainable_variance(ncsnr, repeats) ** 0.5
    return described(ceiling.rename("noise_ceiling"))


def explainable_variance(ncsnr: xr.DataArray, repeats: ArrayLike | xr.DataArray | None = None) -> xr.DataArray:
    r"""Share of the variance of responses, averaged over k trials, that depends on the image.

    .. math:: s^2 / (s^2 + \overline{1/k}),

    where the mean of 1/k runs over the images (Allen et al. 2022, Nature Neuroscience 25, 116-126; the NSD data manual
    writes it as ``(A/3 + B/2 + C/1) / (A + B + C)`` for A, B, C images seen three times, twice and once).

    Parameters and errors are those of :func:`noise_ceiling`.

    Returns
    -------
    xr.DataArray, (voxel,)
        In [0, 1].
    """
    snr, trials = _snr_and_trials(as_labelled(ncsnr, ("voxel",)), repeats)
    if trials.size == 0 or not (trials >= 1).all():
        raise ValueError(f"repeats must be 1 or more for every image, not {trials.min(initial=0):g}")
    signal = snr**2
    share = signal / (signal + float((1.0 / trials).mean()))
    return described(share.rename("explainable_variance"))


def _snr_and_trials(
    values: xr.DataArray, repeats: ArrayLike | xr.DataArray | None
) -> tuple[xr.DataArray, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """The signal-to-noise ratio itself or of responses, and the number of trials per image."""
    along = next((dim for dim in ("image", "trial") if dim in values.dims), None)
    if along is not None:
        if "ncsnr" not in values.coords:
            raise SelectionError("responses lack the coordinate ncsnr; take the voxels from a store that has it")
        if along == "image" and repeats is None and "repetitions" not in values.coords:
            raise SelectionError(
                "responses by image lack the coordinate repetitions (trials averaged per image); give repeats=..."
            )
        repeats = values["repetitions"] if along == "image" and repeats is None else repeats
        values = values["ncsnr"]
    return values, np.asarray(1 if repeats is None else repeats, dtype=np.float64)
