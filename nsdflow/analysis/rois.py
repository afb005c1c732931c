"""Regions of interest as the paper groups them, from the label of each voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsdflow.names import ROI_GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import xarray as xr

__all__ = ["EARLY_AREAS", "roi_masks", "roi_names"]

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
