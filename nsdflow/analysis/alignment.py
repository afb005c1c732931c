"""Brings predictions and responses to the same trials and voxels, by label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nsdflow.errors import SelectionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["align_trials"]


def align_trials(predictions: xr.DataArray, responses: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Predictions and responses with the same ``trial`` and ``voxel`` dimensions, trials in one chunk.

    Predictions by ``image`` are repeated for every trial that shows the image, found by ``nsd_id``. Coordinates of
    the trials are dropped, those of the voxels kept.

    Raises
    ------
    SelectionError
        A trial shows an image without a prediction, or trials or voxels differ.
    """
    if "image" in predictions.dims:
        predictions = _spread(predictions, _rows_of(predictions, responses))
    for dim in ("trial", "voxel"):
        there, here = responses.sizes.get(dim, 1), predictions.sizes.get(dim, 1)
        if there != here:
            raise SelectionError(
                f"responses have {there} {dim}s and predictions {here}; select the same {dim}s of both"
            )
    if {"flat_index"} <= set(predictions.coords) & set(responses.coords) and not np.array_equal(
        predictions["flat_index"], responses["flat_index"]
    ):
        raise SelectionError("predictions and responses name different voxels (flat_index); align them by it")
    return _bare(predictions), _bare(responses)


def _spread(predictions: xr.DataArray, rows: NDArray[np.intp]) -> xr.DataArray:
    """Predictions by trial from those by image; in memory, the trials of a voxel come to lie side by side."""
    result: xr.DataArray = xr.apply_ufunc(
        lambda block: np.take(np.ascontiguousarray(block), rows, axis=-1),
        predictions.chunk(image=-1) if predictions.chunks else predictions,
        input_core_dims=[["image"]],
        output_core_dims=[["trial"]],
        dask="parallelized",
        output_dtypes=[predictions.dtype],
        dask_gufunc_kwargs={"output_sizes": {"trial": rows.size}},
    )
    return result


def _rows_of(predictions: xr.DataArray, responses: xr.DataArray) -> NDArray[np.intp]:
    """Row of ``predictions`` for every trial, by ``nsd_id``."""
    there = np.asarray(predictions["nsd_id"])
    asked = np.asarray(responses["nsd_id"])
    order = np.argsort(there, kind="stable")
    position = np.searchsorted(there, asked, sorter=order).clip(max=there.size - 1)
    rows: NDArray[np.intp] = order[position]
    missing = np.unique(asked[there[rows] != asked])
    if missing.size:
        raise SelectionError(
            f"{missing.size} images of the responses have no prediction, first nsd_id {missing[0]}; predict them "
            "first, or select other trials"
        )
    return rows


def _bare(values: xr.DataArray) -> xr.DataArray:
    """``values`` without coordinates of trials, and with all trials in one chunk where lazy."""
    stripped = values.drop_vars([name for name, c in values.coords.items() if "trial" in c.dims])
    return stripped.chunk(trial=-1) if values.chunks else stripped
