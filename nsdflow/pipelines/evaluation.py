"""How well predictions of shared images fit the trials that validate, with the ceiling beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nsdflow.analysis import accuracy, noise_ceiling, uncertainty

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
) -> dict[str, xr.DataArray]:
    """Accuracy over single trials, its bootstrap error and the noise ceiling of single trials, by voxel.

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
    results = {"accuracy": accuracy(predicted, measured).astype(np.float32)}
    if resamples:
        spread = uncertainty(predicted, measured, resamples=resamples, seed=seed)["accuracy_std"]
        results["accuracy_std"] = spread.astype(np.float32)
    if ncsnr is not None:
        ceiling = noise_ceiling(ncsnr).reset_coords(drop=True).astype(np.float32)
        results["noise_ceiling"] = ceiling.assign_attrs(long_name="noise ceiling of single trials (correlation)")
    return results
