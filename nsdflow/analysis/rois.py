"""Regions of interest as the paper groups them, from the label of each voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nsdflow.names import ROI_GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


__all__ = ["EARLY_AREAS", "roi_masks", "roi_names", "roi_summary"]

#: The areas of early visual cortex, in the order of the supposed hierarchy.
EARLY_AREAS = ("V1", "V2", "V3", "hV4")


def roi_names(roi: xr.DataArray, groups: Mapping[str, Iterable[int]] = ROI_GROUPS) -> xr.DataArray:
    """Name of the group of every voxel: labels 1 and 2 -> ``"V1"``; labels of no group -> ``"other"``.

    Parameters
    ----------
    roi : (voxel,) integer labels as in :data:`nsdflow.names.ROI_LABELS`, or names already, which are kept.
    groups : labels of each group.
    """
    if roi.dtype.kind in "UTO":
        return roi.astype(str)
    labels = np.asarray(roi)
    names = np.full(labels.shape, "other", dtype=f"U{max(5, *map(len, groups))}")
    for name, members in groups.items():
        names[np.isin(labels, list(members))] = name
    return roi.copy(data=names).rename("roi")


def roi_masks(roi: xr.DataArray) -> dict[str, xr.DataArray]:
    """Boolean mask of each group that has a voxel, in the order of :data:`nsdflow.names.ROI_GROUPS`."""
    names = roi_names(roi)
    present = [str(name) for name in np.unique(np.asarray(names))]
    order = [*(name for name in ROI_GROUPS if name in present), *(n for n in present if n not in ROI_GROUPS)]
    return {name: names == name for name in order}


def roi_summary(
    values: xr.Dataset, accuracy: xr.DataArray, roi: xr.DataArray, *, threshold: float = 0.055
) -> xr.Dataset:
    r"""Average of each ROI's well predicted voxels, weighted by the variance that is explained.

    .. math:: \bar x = \sum_v c_v^2 x_v / \sum_v c_v^2 \quad \text{over the voxels with } c_v > \text{threshold},

    as the paper averages its tuning curves. Errors (``*_error``) are averaged like everything else: they are not
    divided by the square root of the number of voxels, whose noise is correlated.

    Parameters
    ----------
    values : any variables with dimension ``voxel``; NaN values are left out.
    accuracy : (voxel,) correlations c.
    roi : (voxel,) labels or names.
    threshold : correlation that a voxel must exceed.

    Returns
    -------
    The same variables with dimension ``roi`` (names) in place of ``voxel``, and ``voxels`` (roi,), the number of
    voxels above the threshold; NaN where there is none. Lazy if ``values`` are.
    """
    weights = (accuracy.where(accuracy > threshold) ** 2).fillna(0)
    masks = roi_masks(roi)
    means = [values.weighted(weights.where(mask, 0)).mean("voxel") for mask in masks.values()]
    names = xr.DataArray(list(masks), dims="roi", name="roi")
    summary: xr.Dataset = xr.concat(means, dim=names)
    return summary.assign(voxels=("roi", [int((mask & (weights > 0)).sum()) for mask in masks.values()]))
