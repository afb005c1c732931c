"""How much of a response can be predicted at all: the noise ceiling from NSD's noise-ceiling SNR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import ArrayLike

__all__ = ["noise_ceiling"]


def noise_ceiling(
    ncsnr: xr.DataArray,
    repeats: int | ArrayLike = 1,
    *,
    unit: Literal["correlation", "variance"] = "correlation",
) -> xr.DataArray:
    r"""Best accuracy that any model of the image alone can reach.

    With signal-to-noise ratio s (NSD's ``ncsnr``: standard deviation of the signal over that of the noise of one
    trial), the responses averaged over k trials hold the share

    .. math:: s^2 / (s^2 + \overline{1/k})

    of signal variance, where the mean of 1/k runs over the images; the ceiling of a correlation is its square root.

    Parameters
    ----------
    ncsnr : (voxel,) noise-ceiling signal-to-noise ratio, 0 or more; NaN (no estimate) stays NaN. Any shape, lazy
        or not.
    repeats
        Trials averaged for each image: one number, or one number an image where images were seen unequally often.
        1 is the ceiling of single trials, to which accuracies on single validation trials belong.
    unit
        ``"correlation"``, or ``"variance"`` for the share of variance (as ``.nsd.noise_ceiling`` gives it).

    Returns
    -------
    (voxel,) of the same dtype and coordinates, in [0, 1].

    Raises
    ------
    ValueError
        An image with fewer than one trial.

    Notes
    -----
    Allen et al. (2022), Nature Neuroscience 25, 116-126, and the NSD data manual, which writes the unequal form
    as ``(A/3 + B/2 + C/1) / (A + B + C)`` for A, B, C images seen three times, twice and once.
    """
    trials = np.asarray(repeats, dtype=np.float64)
    if trials.size == 0 or not (trials >= 1).all():
        raise ValueError(f"repeats must be 1 or more for every image, not {trials.min(initial=0):g}")
    signal = ncsnr**2
    share = signal / (signal + float((1.0 / trials).mean()))
    ceiling = share**0.5 if unit == "correlation" else share
    meaning = "correlation" if unit == "correlation" else "share of variance"
    return ceiling.rename("noise_ceiling").assign_attrs(long_name=f"noise ceiling ({meaning})", units="1")
