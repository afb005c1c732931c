"""Identification of the seen image from predicted responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nsdflow.analysis.alignment import as_labelled, check_same_voxels, ids_of
from nsdflow.errors import SelectionError
from nsdflow.labels import described

__all__ = ["identification"]

#: Responses scored together: with 10,000 candidates a block of scores is 80 MB.
BLOCK_RESPONSES = 1000


def identification(
    predictions: xr.DataArray,
    responses: xr.DataArray,
    *,
    candidates: ArrayLike | None = None,
    k: Sequence[int] = (1, 5, 10),
) -> xr.Dataset:
    """Find the image of each response among candidates, by the correlation over voxels with predicted responses.

    Both sides are z-scored per voxel first, so that every voxel counts alike.

    Parameters
    ----------
    predictions : xr.DataArray, (image, voxel)
        With coordinate ``nsd_id``. Lazy arrays are computed. Arrays of NumPy and tensors are paired by row.
    responses : xr.DataArray, (trial, voxel) or (image, voxel)
        Single trials, or averages over repetitions (identified much better), with coordinate ``nsd_id``.
    candidates : array of int, optional
        ``nsd_id`` of the candidate images; by default the images that the responses show.
    k : sequence of int
        Sizes of the short lists.

    Returns
    -------
    xr.Dataset
        ``rank`` (trial or image): 0 where the right image is the best match, ties share the middle of their places;
        ``top`` (k,), the share of responses whose image is among the k best; ``chance`` (k,), k over the number of
        candidates; ``median_rank``; attribute ``candidates``, their number.

    Raises
    ------
    SelectionError
        A candidate has no prediction, a response shows no candidate, voxels differ, or k exceeds the candidates.
    """
    bare = not hasattr(predictions, "dims") and not hasattr(responses, "dims")
    predictions, responses = (as_labelled(values, ("image", "voxel")) for values in (predictions, responses))
    if bare:
        rows = {"nsd_id": ("image", np.arange(responses.sizes["image"]))}
        predictions, responses = predictions.assign_coords(rows), responses.assign_coords(rows)
    for name, values in {"responses": responses, "predictions": predictions}.items():
        if "voxel" not in values.dims or "nsd_id" not in values.coords:
            raise SelectionError(f"{name} need the dimension voxel and the coordinate nsd_id; assign them")
    along = "image" if "image" in responses.dims else "trial"
    check_same_voxels(predictions, responses)
    if predictions.sizes["voxel"] != responses.sizes["voxel"]:
        raise SelectionError(
            f"responses have {responses.sizes['voxel']} voxels and predictions {predictions.sizes['voxel']}; select "
            "the same voxels of both"
        )
    shown = np.asarray(responses["nsd_id"])
    wanted = np.unique(shown if candidates is None else np.asarray(candidates))
    absent = np.setdiff1d(shown, wanted)
    if absent.size:
        raise SelectionError(
            f"{absent.size} images of the responses are no candidates, first nsd_id {absent[0]}; add them"
        )
    if max(k) > wanted.size:
        raise SelectionError(
            f"k = {max(k)} of {wanted.size} candidates; give k no larger than the number of candidates"
        )
    x = _patterns(predictions.transpose("image", "voxel").isel(image=_rows(predictions, wanted)).values)
    y = _patterns(responses.transpose(along, "voxel").values)
    rank = _ranks(x, y, np.searchsorted(wanted, shown))
    found = xr.Dataset(
        {
            "rank": (along, rank),
            "top": ("k", [float((rank < size).mean()) for size in k]),
            "chance": ("k", [size / wanted.size for size in k]),
            "median_rank": float(np.median(rank)),
        },
        {"k": list(k), "nsd_id": (along, shown)},
        attrs={"candidates": int(wanted.size)},
    )
    return described(found)


def _rows(predictions: xr.DataArray, wanted: NDArray[np.integer]) -> list[int]:
    row = {int(number): place for place, number in enumerate(ids_of(predictions, "predictions"))}
    missing = [int(number) for number in wanted if int(number) not in row]
    if missing:
        raise SelectionError(
            f"{len(missing)} candidates have no prediction, first nsd_id {missing[0]}; predict them first"
        )
    return [row[int(number)] for number in wanted]


def _patterns(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of voxels that are z-scored per voxel, centred and of length one; voxels with NaN count as 0."""
    z = values.astype(np.float64)
    known, z = np.isfinite(z), np.nan_to_num(z, posinf=0, neginf=0)
    count = np.maximum(known.sum(0), 1)
    z = np.where(known, z - z.sum(0) / count, 0)
    spread = np.sqrt((z**2).sum(0) / count)
    varies = spread > 1e-12 * np.abs(np.where(known, values, 0)).max(0, initial=0)  # the mean of a constant is rounded
    z = np.divide(z, spread, out=np.zeros_like(z), where=varies)
    z -= z.mean(1, keepdims=True)
    length = np.linalg.norm(z, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(z, length, out=np.zeros_like(z), where=length > 0)
    return unit


def _ranks(x: NDArray[np.float64], y: NDArray[np.float64], right: NDArray[np.intp]) -> NDArray[np.float64]:
    """Number of candidates that match each response better than the right one; ties count half."""
    ranks = np.empty(len(y))
    for start in range(0, len(y), BLOCK_RESPONSES):
        block = slice(start, start + BLOCK_RESPONSES)
        scores = y[block] @ x.T
        own = scores[np.arange(len(scores)), right[block], None]
        ranks[block] = (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return ranks
