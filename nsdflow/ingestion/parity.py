"""``nsdflow check --parity``: voxel counts of a source compared with those that the published notebooks print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nsdflow.analysis.published import find
from nsdflow.analysis.published.numbers import VOLUME_SHAPES
from nsdflow.analysis.rois import roi_masks
from nsdflow.errors import MissingDataError
from nsdflow.names import DEFAULT_SPACE, subject_number
from nsdflow.nsd.inventory import take_inventory
from nsdflow.nsd.source import Source, open_source
from nsdflow.nsd.voxels.masks import VOXEL_SETS, voxel_set
from nsdflow.nsd.voxels.rois import joined_roi
from nsdflow.nsd.voxels.volumes import read_brainmask

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Count", "check_parity", "describe_parity"]

#: Voxel sets whose ROIs the notebooks count.
_BY_ROI = ("evc", "visual")


@dataclass(frozen=True)
class Count:
    """Voxels of a set, or of an ROI within it, and the published number."""

    subject: str
    voxels: str
    roi: str
    ours: int
    published: int


def check_parity(source: str | Source) -> tuple[Count, ...]:
    """Count the voxels of every set and ROI that the notebooks print, for the subjects of a source.

    Parameters
    ----------
    source : str or Source
        Where NSD is: a folder or an fsspec URL. Only masks and ROI volumes are read.

    Returns
    -------
    tuple of Count
        Sets whose files the source lacks are left out.

    Raises
    ------
    MissingDataError
        The source has none of the subjects of the paper.
    """
    origin = source if isinstance(source, Source) else open_source(source)
    found = [subject.subject for subject in take_inventory(origin, space=DEFAULT_SPACE).subjects]
    subjects = [name for name in found if subject_number(name) <= len(VOLUME_SHAPES)]
    if not subjects:
        raise MissingDataError("the source has none of the subjects 1 to 8 of the paper; check the folder")
    return tuple(count for subject in subjects for count in _counts(origin, subject))


def describe_parity(counts: tuple[Count, ...]) -> str:
    """The counts as a table, and how many agree."""
    header = ("subject", "voxels", "ROI", "here", "published", "")
    rows = [
        (c.subject, c.voxels, c.roi, f"{c.ours:,}", f"{c.published:,}", "" if c.ours == c.published else "differs")
        for c in counts
    ]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        padded = zip(row, widths, strict=True)
        cells = [cell.rjust(w) if 2 < n < 5 else cell.ljust(w) for n, (cell, w) in enumerate(padded)]
        lines.append("  ".join(cells))
    same = sum(count.ours == count.published for count in counts)
    lines.append(f"{same} of {len(counts)} counts are the published ones")
    if same < len(counts):
        lines.append(
            "ROI files were revised between releases, so small differences in evc and visual are expected; on "
            "synthetic data the comparison means nothing"
        )
    return "\n".join(line.rstrip() for line in lines)


def _counts(origin: Source, subject: str) -> Iterator[Count]:
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
            yield Count(subject, name, number.roi, sizes.get(number.roi, 0), int(number.value))
