"""Bring predictions and responses to the same trials (or images) and voxels, by label."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.errors import SelectionError

__all__ = ["align_trials", "as_labelled", "check_same_voxels", "ids_of", "rows_of"]

#: Coordinates that identify a voxel; `hemisphere` exists on surfaces only, `voxel` where there is an index.
VOXEL_KEYS = ("flat_index", "hemisphere", "voxel")


def as_labelled(values: Any, dims: tuple[str, ...]) -> xr.DataArray:
    """Arrays of NumPy and tensors with these dimensions, by their order; labelled arrays as they are.

    Raises
    ------
    SelectionError
        An array has more dimensions.
    """
    if isinstance(values, xr.DataArray):
        return values
    array = np.asarray(values)
    if array.ndim > len(dims):
        raise SelectionError(f"an array of shape {array.shape} is not ({', '.join(dims)}); give an xarray.DataArray")
    return xr.DataArray(array, dims=dims[: array.ndim])


def ids_of(values: xr.DataArray, what: str) -> NDArray[Any]:
    """``nsd_id`` of images, each of which may occur once.

    Raises
    ------
    SelectionError
        There is no ``nsd_id``, or an image occurs twice.
    """
    if "nsd_id" not in values.coords:
        raise SelectionError(f"{what} lack the coordinate nsd_id, which says which image each entry shows; assign it")
    ids = np.asarray(values["nsd_id"])
    found, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise SelectionError(f"{what} have image {found[counts.argmax()]} {counts.max()} times; give one row per image")
    return ids


def align_trials(predictions: xr.DataArray, responses: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Align predictions with responses along ``trial`` and ``voxel``.

    Parameters
    ----------
    predictions : xr.DataArray, (trial, ...) or (image, ...)
        Predictions by ``image`` need the coordinate ``nsd_id`` (image,), by which they are looked up. Arrays of NumPy
        and tensors are paired with the responses row by row.
    responses : xr.DataArray, (trial, ...) or (image, ...)
        Responses by ``image`` are averages over repetitions; predictions must then be by ``image``, too.

    Returns
    -------
    tuple of xr.DataArray
        Both with dimension ``trial`` (one entry per trial or image of ``responses``, in its order, in one chunk where
        lazy), without coordinates along it. Coordinates of the voxels are kept.

    Raises
    ------
    SelectionError
        An image has no prediction or two, the trials show different images, or trials or voxels differ.
    """
    responses = as_labelled(responses, ("trial", "voxel"))
    predictions = as_labelled(predictions, ("image" if "image" in responses.dims else "trial", "voxel"))
    for name, values in {"responses": responses, "predictions": predictions}.items():
        if len({"trial", "image"} & set(values.dims)) != 1:
            dims = ", ".join(map(str, values.dims))
            raise SelectionError(f"{name} have the dimensions {dims}; rename the one of their rows to trial or image")
    if "image" in responses.dims and "image" not in predictions.dims:
        raise SelectionError(
            "responses are by image and predictions by trial; average both over repetitions "
            "(.nsd.mean_over_repetitions()), or give predictions by image"
        )
    if "image" in predictions.dims:
        predictions = _predictions_of(predictions, responses)
    responses = responses.rename(image="trial") if "image" in responses.dims else responses
    for dim in ("trial", "voxel"):
        ours, theirs = responses.sizes.get(dim, 1), predictions.sizes.get(dim, 1)
        if ours != theirs:
            raise SelectionError(
                f"responses have {ours} {dim}s and predictions {theirs}; select the same {dim}s of both"
            )
    _check_same_images(predictions, responses)
    check_same_voxels(predictions, responses)
    return _without_trial_coordinates(predictions), _without_trial_coordinates(responses)


def check_same_voxels(first: xr.DataArray, second: xr.DataArray) -> None:
    """Raise a SelectionError if the coordinates of two arrays name different voxels, or the same in another order."""
    for key in VOXEL_KEYS:
        if {key} <= set(first.coords) & set(second.coords) and not np.array_equal(first[key], second[key]):
            raise SelectionError(
                f"the two arrays name different voxels ({key}); select the same voxels of both, in the same order"
            )


def rows_of(available: xr.DataArray, wanted: xr.DataArray) -> NDArray[np.intp]:
    """Row of ``available`` (its ``nsd_id``) for each entry of ``wanted``.

    Raises
    ------
    SelectionError
        An image of ``wanted`` is not available, or one of ``available`` occurs twice.
    """
    ours = ids_of(available, "predictions")
    asked = np.asarray(wanted["nsd_id"])
    order = np.argsort(ours, kind="stable")
    position = np.searchsorted(ours, asked, sorter=order).clip(max=ours.size - 1)
    rows: NDArray[np.intp] = order[position]
    missing = np.unique(asked[ours[rows] != asked])
    if missing.size:
        raise SelectionError(
            f"{missing.size} images of the responses have no prediction, first nsd_id {missing[0]}; predict them "
            "first, or select other trials"
        )
    return rows


def _predictions_of(predictions: xr.DataArray, responses: xr.DataArray) -> xr.DataArray:
    """Predictions by trial for the trials, or the images, of the responses."""
    labelled = ["nsd_id" in array.coords for array in (predictions, responses)]
    if all(labelled):
        return _take(predictions, rows_of(predictions, responses))
    if "image" in responses.dims and not any(labelled):
        return predictions.rename(image="trial")
    unlabelled = "predictions" if labelled[1] else "responses"
    raise SelectionError(f"{unlabelled} lack the coordinate nsd_id, which says which image each entry shows; assign it")


def _take(predictions: xr.DataArray, rows: NDArray[np.intp]) -> xr.DataArray:
    """Repeat rows of ``image`` as ``trial``; in memory, the trials of a voxel lie side by side."""
    bare = predictions.drop_vars([name for name, c in predictions.coords.items() if "image" in c.dims])
    result: xr.DataArray = xr.apply_ufunc(
        lambda block: np.take(np.ascontiguousarray(block), rows, axis=-1),
        bare.chunk(image=-1) if bare.chunks else bare,
        input_core_dims=[["image"]],
        output_core_dims=[["trial"]],
        dask="parallelized",
        output_dtypes=[predictions.dtype],
        dask_gufunc_kwargs={"output_sizes": {"trial": rows.size}},
    )
    return result


def _check_same_images(predictions: xr.DataArray, responses: xr.DataArray) -> None:
    """Trials are paired by position: where both sides say which image a trial shows, they must agree."""
    if {"nsd_id"} <= set(predictions.coords) & set(responses.coords):
        differ = np.flatnonzero(np.asarray(predictions["nsd_id"]) != np.asarray(responses["nsd_id"]))
        if differ.size:
            raise SelectionError(
                f"predictions and responses show different images in {differ.size} trials, first in trial {differ[0]}; "
                "bring both to the same order of trials"
            )


def _without_trial_coordinates(values: xr.DataArray) -> xr.DataArray:
    """``values`` without coordinates of trials, and with all trials in one chunk where lazy."""
    stripped = values.drop_vars([name for name, c in values.coords.items() if "trial" in c.dims])
    return stripped.chunk(trial=-1) if values.chunks else stripped
