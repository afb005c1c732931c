"""How well predictions of shared images fit the trials that validate, with the ceiling beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nsdflow.analysis import evaluate, noise_ceiling

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["validation_accuracy"]


def validation_accuracy(
    predictions: NDArray[np.floating[Any]],
    predicted_ids: NDArray[np.int64],
    responses: NDArray[np.floating[Any]],
    nsd_id: NDArray[np.int64],
    ncsnr: xr.DataArray | None,
    *,
    resamples: int,
    seed: int,
    repetitions: NDArray[np.int64] | None = None,
) -> dict[str, xr.DataArray]:
    """Accuracy over single trials with its bootstrap error, the control with shuffled images, and the noise ceiling.

    Parameters
    ----------
    predictions, predicted_ids
        (image, voxel) and the images' ``nsd_id``.
    responses, nsd_id
        (trial, voxel) of the validation trials, and the image each shows.
    ncsnr
        (voxel,); no ceiling without it.
    resamples
        Of the bootstrap; no ``accuracy_std`` if 0.
    repetitions
        (trial,) presentations that each row of ``responses`` averages; single trials by default.
    """
    predicted = xr.DataArray(predictions, dims=("image", "voxel"), coords={"nsd_id": ("image", predicted_ids)})
    measured = xr.DataArray(responses, dims=("trial", "voxel"), coords={"nsd_id": ("trial", nsd_id)})
    if ncsnr is not None:
        measured = measured.assign_coords(ncsnr=("voxel", ncsnr.values))
    scores = evaluate(predicted, measured, resamples=resamples, seed=seed)
    if repetitions is not None and ncsnr is not None:
        ceiling = noise_ceiling(ncsnr, repetitions).reset_coords(drop=True).astype(np.float32)
        scores["noise_ceiling"] = ceiling.assign_attrs(long_name="noise ceiling of averaged trials (correlation)")
    return {str(name): values for name, values in scores.data_vars.items()}
