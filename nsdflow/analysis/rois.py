"""Regions of interest as the paper groups them, from the label of each voxel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.errors import SelectionError, one_of
from nsdflow.names import ROI_GROUPS

__all__ = ["EARLY_AREAS", "roi_masks", "roi_names", "roi_summary"]

#: The areas of early visual cortex, in the order of the supposed hierarchy.
EARLY_AREAS = ("V1", "V2", "V3", "hV4")


def roi_names(roi: xr.DataArray, groups: Mapping[str, Iterable[int]] = ROI_GROUPS) -> xr.DataArray:
    """Name of the ROI group of every voxel: labels 1 and 2 become ``"V1"``.

    Parameters
    ----------
    roi : xr.DataArray, (voxel,)
        Integer labels as in :data:`nsdflow.names.ROI_LABELS`, or names, which are kept.
    groups : mapping of str to labels
        Labels of each group.

    Returns
    -------
    xr.DataArray, (voxel,)
        Names; ``""`` for labels of no group, such as -1 (not cortex).
    """
    if roi.dtype.kind in "UTO":
        return roi.astype(str)
    labels = np.asarray(roi)
    names = np.full(labels.shape, "", dtype=f"U{max(5, *map(len, groups))}")
    for name, members in groups.items():
        names[np.isin(labels, list(members))] = name
    named = roi.copy(data=names)
    named.name = "roi"  # `rename` would copy every coordinate
    return named


def roi_masks(roi: xr.DataArray) -> dict[str, xr.DataArray]:
    """Boolean mask of each group that has a voxel, in the order of :data:`nsdflow.names.ROI_GROUPS`."""
    names = roi_names(roi)
    present = [str(name) for name in np.unique(np.asarray(names)) if name != ""]
    order = [*(name for name in ROI_GROUPS if name in present), *(n for n in present if n not in ROI_GROUPS)]
    # comparing labelled arrays would merge their coordinates, of which voxels have dozens, once per group
    return {name: names.copy(data=np.asarray(names) == name) for name in order}


def roi_summary(
    values: xr.Dataset | xr.DataArray,
    accuracy: xr.DataArray | None = None,
    roi: xr.DataArray | None = None,
    *,
    average: Literal["median", "mean", "published"] = "median",
    threshold: float = 0.055,
) -> xr.Dataset:
    r"""Average variables over the voxels of each ROI.

    Parameters
    ----------
    values : xr.Dataset or xr.DataArray
        Any variables with dimension ``voxel``; NaN values are left out.
    accuracy : xr.DataArray, (voxel,), optional
        Correlations c. Only ``average="published"`` uses them.
    roi : xr.DataArray, (voxel,), optional
        Labels or names; by default the coordinate ``roi`` of ``values``.
    average : {"median", "mean", "published"}
        ``"median"`` and ``"mean"`` weight all voxels of the ROI equally. ``"published"`` is how the paper averages its
        tuning curves:

        .. math:: \bar x = \sum_v c_v^2 x_v / \sum_v c_v^2 \quad \text{over the voxels with } c_v > \text{threshold}.
    threshold : float
        Correlation that a voxel must exceed; only ``average="published"`` uses it.

    Returns
    -------
    xr.Dataset
        The same variables with dimension ``roi`` (names) in place of ``voxel``, and ``voxels`` (roi,), the number of
        voxels averaged; NaN where there are none. Errors (``*_error``) are averaged like everything else: they are not
        divided by the square root of the number of voxels, whose noise is correlated. Lazy if ``values`` are.

    Raises
    ------
    SelectionError
        No ``roi``; ``"published"`` without ``accuracy``; or an unknown average.

    Warnings
    --------
    ``average="published"`` selects and weights voxels by their accuracy. Averages of the accuracy itself, and of
    anything that depends on the same trials, are then biased upwards: for predictions of pure noise it returns about
    0.06 to 0.2 instead of 0. Use it for tuning curves as in the paper, never to report how well a model predicts.
    """
    if isinstance(values, xr.DataArray):
        values = values.to_dataset(name=values.name or "values")
    if roi is None and "roi" not in values.coords:
        raise SelectionError("roi_summary needs the label of each voxel; give roi=..., or values with coordinate roi")
    masks = roi_masks(values["roi"] if roi is None else roi)
    if average not in AVERAGES:
        raise one_of("average", average, AVERAGES)
    means, counts = AVERAGES[average](values, list(masks.values()), accuracy, threshold)
    names = xr.DataArray(list(masks), dims="roi", name="roi")
    summary: xr.Dataset = xr.concat(means, dim=names)
    return summary.assign(voxels=("roi", counts))


def _weighted(
    values: xr.Dataset, masks: Sequence[xr.DataArray], accuracy: xr.DataArray | None, threshold: float
) -> tuple[list[xr.Dataset], list[int]]:
    if accuracy is None:
        raise SelectionError("average='published' weights voxels by accuracy; give accuracy=..., or use 'median'")
    weights = (accuracy.where(accuracy > threshold) ** 2).fillna(0)
    means = [values.weighted(weights.where(mask, 0)).mean("voxel") for mask in masks]
    return means, [int((mask & (weights > 0)).sum()) for mask in masks]


def _even(
    function: Callable[..., Any],
    values: xr.Dataset,
    masks: Sequence[xr.DataArray],
    accuracy: xr.DataArray | None,
    threshold: float,
) -> tuple[list[xr.Dataset], list[int]]:
    inside = [values.isel(voxel=np.flatnonzero(np.asarray(mask))) for mask in masks]
    return [_reduced(part, function) for part in inside], [part.sizes["voxel"] for part in inside]


#: Averages over the voxels of ROIs, by the value of ``average``: they return one average, and the number of voxels in
#: it, per mask.
AVERAGES: Final[Mapping[str, Callable[..., tuple[list[xr.Dataset], list[int]]]]] = {
    "median": partial(_even, np.nanmedian),
    "mean": partial(_even, np.nanmean),
    "published": _weighted,
}


def _reduced(values: xr.Dataset, function: Callable[..., Any]) -> xr.Dataset:
    """``function`` over the voxels of every variable that has them; lazy arrays stay lazy."""
    by_voxel = values[[name for name, variable in values.items() if "voxel" in variable.dims]]
    reduced: xr.Dataset = xr.apply_ufunc(
        lambda block: _without_warning(function, block),
        by_voxel.chunk(voxel=-1) if by_voxel.chunks else by_voxel,
        input_core_dims=[["voxel"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        keep_attrs=True,
    )
    return reduced


def _without_warning(function: Callable[..., Any], block: NDArray[Any]) -> NDArray[np.float64]:
    """Reduce the last axis; voxels that are all NaN give NaN without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice|Mean of empty slice")
        return np.asarray(function(block.astype(np.float64), axis=-1))
