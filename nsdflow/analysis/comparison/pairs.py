"""Comparison of two models on the same voxels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from nsdflow.analysis.alignment import check_same_voxels
from nsdflow.analysis.rois import roi_masks, roi_names
from nsdflow.analysis.summary import with_accuracy
from nsdflow.errors import SelectionError
from nsdflow.labels import described

__all__ = ["advantage", "compare_models", "compare_runs", "paired_subjects"]


def compare_models(first: xr.DataArray, second: xr.DataArray, roi: xr.DataArray | None = None) -> xr.Dataset:
    """Share of the voxels that each of two models predicts better, and the difference, by ROI.

    Parameters
    ----------
    first, second : xr.DataArray, (voxel,)
        Accuracies of the same voxels (correlations).
    roi : xr.DataArray, (voxel,), optional
        Labels or names; by default the coordinate ``roi`` of ``first``.

    Returns
    -------
    xr.Dataset
        Over ``roi`` (the groups present, then ``"all"``): ``voxels``; ``first_better`` and ``second_better``, percent
        of the voxels (ties are in neither); ``mean_difference`` and ``median_difference``, second minus first.

    Raises
    ------
    SelectionError
        The two arrays are of different voxels.
    """
    if first.sizes != second.sizes:
        raise SelectionError("the two models were run on different voxels; select those that both have")
    check_same_voxels(first, second)
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
    return described(xr.Dataset({name: ("roi", column) for name, column in columns.items()}, {"roi": [*masks, "all"]}))


def advantage(first: xr.DataArray, second: xr.DataArray, *, threshold: float, limit: float) -> xr.Dataset:
    """Count the voxels that each of two models predicts better, among those that either predicts well.

    Parameters
    ----------
    first, second : xr.DataArray, (voxel,)
        Accuracies of the same voxels (correlations).
    threshold : float
        At least one of the two must exceed it.
    limit : float
        Voxels whose difference exceeds it are not counted (the published axis ends there).

    Returns
    -------
    xr.Dataset
        Over ``model`` (``first``, ``second``): ``voxels``, where the second is below the first, and where it is not
        (ties count for the second, as published); ``share``, percent of the two together, NaN without voxels.
    """
    one, two = (np.asarray(values, dtype=np.float64) for values in (first, second))
    shown = ((one > threshold) | (two > threshold)) & (abs(two - one) <= limit)
    counts = np.array([(shown & (two < one)).sum(), (shown & (two >= one)).sum()])
    total = counts.sum()
    share = 100 * counts / total if total else np.full(2, np.nan)
    variables = {"voxels": ("model", counts), "share": ("model", share)}
    return described(xr.Dataset(variables, {"model": ["first", "second"]}))


def compare_runs(first: xr.DataTree, second: xr.DataTree) -> xr.Dataset:
    """:func:`compare_models` of every subject that two runs share, and of all their voxels together as ``"all"``.

    Parameters
    ----------
    first, second : xr.DataTree
        Results with ``accuracy`` (voxel,) and ``roi`` of the same voxels.

    Returns
    -------
    xr.Dataset
        The variables of :func:`compare_models` over (subject, roi); NaN where a subject has no voxel of an area.

    Raises
    ------
    SelectionError
        The two runs are of different voxels, or have no subject in common.
    """
    pairs = dict(paired_subjects(first, second))
    triples = [(one["accuracy"], two["accuracy"], roi_names(one["roi"])) for one, two in pairs.values()]
    everyone = [xr.DataArray(np.concatenate(joined), dims="voxel") for joined in zip(*triples, strict=True)]
    compared = [compare_models(*triple) for triple in (*triples, everyone)]
    return xr.concat(compared, xr.Variable("subject", [*pairs, "all"]), join="outer")


def paired_subjects(first: xr.DataTree, second: xr.DataTree) -> Iterator[tuple[str, tuple[xr.Dataset, xr.Dataset]]]:
    """Name and both results of each subject that two runs share.

    Raises
    ------
    SelectionError
        They share no subject.
    """
    ones, others = with_accuracy(first), with_accuracy(second)
    names = [name for name in ones if name in others]
    if not names:
        raise SelectionError("the two runs have no subject in common; compare runs on the same store")
    for name in names:
        yield name, (ones[name], others[name])
