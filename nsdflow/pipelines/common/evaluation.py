"""Accuracy of predictions of shared images on the validation trials, with the noise ceiling."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis import evaluate, noise_ceiling

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
    predictions : ndarray, (image, voxel)
        Predicted responses.
    predicted_ids : ndarray of int, (image,)
        Values of ``nsd_id`` of the predicted images.
    responses : ndarray, (trial, voxel)
        Responses of the validation trials.
    nsd_id : ndarray of int, (trial,)
        The image that each validation trial shows.
    ncsnr : DataArray or None, (voxel,)
        Noise-ceiling signal-to-noise ratio. The result has no noise ceiling if None.
    resamples : int
        Bootstrap resamples. The result has no ``accuracy_std`` if 0.
    seed : int
        Seed of the bootstrap and of the shuffled images.
    repetitions : ndarray of int, optional, (trial,)
        Number of presentations that each row of ``responses`` averages; one if None.

    Returns
    -------
    dict of str to DataArray, each (voxel,)
        Scores by name.
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
