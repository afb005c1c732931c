"""How well predictions of shared images fit the trials that validate, with the ceiling beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from nsdflow.analysis import evaluate

if TYPE_CHECKING:
    import numpy as np
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
    """
    predicted = xr.DataArray(predictions, dims=("image", "voxel"), coords={"nsd_id": ("image", predicted_ids)})
    measured = xr.DataArray(responses, dims=("trial", "voxel"), coords={"nsd_id": ("trial", nsd_id)})
    if ncsnr is not None:
        measured = measured.assign_coords(ncsnr=("voxel", ncsnr.values))
    scores = evaluate(predicted, measured, resamples=resamples, seed=seed)
    return {str(name): values for name, values in scores.data_vars.items()}
