"""Two models side by side on the same voxels."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nsdflow.analysis.rois import roi_masks, roi_names
from nsdflow.analysis.summary import subject_results
from nsdflow.errors import SelectionError

__all__ = ["compare_models", "compare_runs"]


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


def compare_runs(first: xr.DataTree, second: xr.DataTree) -> xr.Dataset:
    """:func:`compare_models` of every subject that two runs have, and of all their voxels together as ``"all"``.

    Parameters
    ----------
    first, second : results with ``accuracy`` (voxel,) and ``roi`` of the same voxels.

    Returns
    -------
    The variables of :func:`compare_models` over (subject, roi); NaN where a subject has no voxel of an area.

    Raises
    ------
    SelectionError
        The two runs are not of the same voxels, or have no subject in common.
    """
    ones, others = dict(subject_results(first)), dict(subject_results(second))
    names = [name for name in ones if name in others]
    if not names:
        raise SelectionError("the two runs have no subject in common; compare runs on the same store")
    triples = [(ones[name]["accuracy"], others[name]["accuracy"], roi_names(ones[name]["roi"])) for name in names]
    everyone = [xr.DataArray(np.concatenate(joined), dims="voxel") for joined in zip(*triples, strict=True)]
    compared = [compare_models(*triple) for triple in (*triples, everyone)]
    return xr.concat(compared, xr.Variable("subject", [*names, "all"]), join="outer")
