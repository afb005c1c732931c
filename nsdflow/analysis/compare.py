"""Two models side by side on the same voxels."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nsdflow.analysis.rois import roi_masks
from nsdflow.errors import SelectionError

__all__ = ["compare_models"]


def compare_models(first: xr.DataArray, second: xr.DataArray, roi: xr.DataArray | None = None) -> xr.Dataset:
    """Share of the voxels that the second model predicts better, and by how much, by ROI.

    Parameters
    ----------
    first, second : (voxel,) accuracies of the same voxels (correlations).
    roi : (voxel,) labels or names; default the coordinate ``roi`` of ``first``.

    Returns
    -------
    Over ``roi`` (the groups present, then ``"all"``): ``voxels``; ``first_better`` and ``second_better``, percent
    of the voxels (ties are in neither); ``mean_difference`` and ``median_difference``, second minus first.

    Raises
    ------
    SelectionError
        The two are not of the same voxels.
    """
    if first.sizes != second.sizes or (
        {"flat_index"} <= set(first.coords) & set(second.coords)
        and not np.array_equal(first["flat_index"], second["flat_index"])
    ):
        raise SelectionError("the two models were run on different voxels; select those that both have")
    masks = roi_masks(first["roi"] if roi is None else roi)
    difference = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    groups = [difference[np.asarray(mask)] for mask in masks.values()] + [difference]
    columns = {
        "voxels": [group.size for group in groups],
        "first_better": [100 * np.mean(group < 0) for group in groups],
        "second_better": [100 * np.mean(group > 0) for group in groups],
        "mean_difference": [np.mean(group) for group in groups],
        "median_difference": [np.median(group) for group in groups],
    }
    return xr.Dataset({name: ("roi", column) for name, column in columns.items()}, {"roi": [*masks, "all"]})
