"""Voxels by set and ROI, and trials, of a source against the counts that the published notebooks print."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from nsdflow.analysis.published import Cell, find
from nsdflow.analysis.rois import roi_masks
from nsdflow.errors import MissingDataError
from nsdflow.names import DEFAULT_SPACE
from nsdflow.nsd.design import Design
from nsdflow.nsd.inventory import SubjectInventory
from nsdflow.nsd.source import Source
from nsdflow.nsd.voxels.masks import VOXEL_SETS, voxel_set
from nsdflow.nsd.voxels.rois import joined_roi
from nsdflow.nsd.voxels.volumes import read_brainmask

__all__ = ["trial_counts", "voxel_counts"]

#: Voxel sets whose ROIs the notebooks count.
_BY_ROI = ("evc", "visual")


def voxel_counts(origin: Source, subject: str) -> Iterator[Cell]:
    """Voxels of every set, and of every ROI of it, that the notebooks print; sets without files are left out."""
    shape = read_brainmask(origin, subject, space=DEFAULT_SPACE).values.shape
    for name in VOXEL_SETS:
        published = find("voxels", model=name, subject=subject)
        if not published:
            continue
        try:
            mask = np.asarray(voxel_set(origin, subject, name, space=DEFAULT_SPACE, shape=shape))
        except MissingDataError:
            continue
        sizes = {"all": int(mask.sum())}
        if name in _BY_ROI:
            labels = joined_roi(origin, subject, DEFAULT_SPACE, shape=shape).values[mask]
            rois = roi_masks(xr.DataArray(labels, dims="voxel"))
            sizes |= {roi: int(inside.sum()) for roi, inside in rois.items()}
        for number in published:
            ours = float(sizes.get(number.roi, 0))
            yield Cell(f"voxels, {name}", subject, number.roi, ours, number.value, float("nan"), number.note)


def trial_counts(design: Design, found: SubjectInventory) -> Iterator[Cell]:
    """Training and validation trials of the sessions that the source has."""
    shared = np.isin(design.nsd_id(found.subject), design.sharedix)[np.isin(design.session, found.sessions)]
    for part, count in (("training", int((~shared).sum())), ("validation", int(shared.sum()))):
        for number in find("trials", model=part, subject=found.subject):
            yield Cell(f"{part} trials", found.subject, "all", float(count), number.value, float("nan"), number.note)
