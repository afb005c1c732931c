"""Atlases: a label for each voxel and the names of the labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from nsdflow.errors import MissingDataError, SourceError, one_of
from nsdflow.names import ROI_LABELS
from nsdflow.nsd import layout
from nsdflow.nsd.volumes import read_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["JOINED", "Atlas", "joined_roi", "list_atlases", "read_atlas", "read_labels"]

#: Name of the joined visual ROI, prf-visualrois written over Kastner2015.
JOINED: Final = "roi"


@dataclass(frozen=True)
class Atlas:
    """Labels of voxels.

    Attributes
    ----------
    name : str
        As in NSD's file names, such as ``"prf-visualrois"``.
    values : numpy.ndarray
        int16; (i, j, k), or (vertex,) for a surface. 1..N are labels, 0 is cortex without a label, -1 (volumes
        only) is not cortex.
    labels : dict
        Name of each label from 1 on: those of the label table, and the number itself where the table has none.
    """

    name: str
    values: NDArray[np.int16]
    labels: dict[int, str]


def list_atlases(source: Source, subject: str, space: str) -> tuple[str, ...]:
    """Names of the atlases that are there, sorted.

    On a surface, whose label folder also holds maps, an atlas is what has a label table.
    """
    names = source.listdir(layout.atlas_folder(subject, space))
    if not layout.is_surface(space):
        whole = (name.removesuffix(".nii.gz") for name in names if name.endswith(".nii.gz"))
        return tuple(name for name in whole if not name.startswith(("lh.", "rh.", ".")))  # macOS leaves ._ files
    tables = {name.removesuffix(".mgz.ctab") for name in names if name.endswith(".mgz.ctab")}
    return tuple(sorted(name for name in tables if {f"lh.{name}.mgz", f"rh.{name}.mgz"} <= set(names)))


def read_atlas(source: Source, subject: str, atlas: str, space: str, *, shape: Sequence[int] | None = None) -> Atlas:
    """Read an atlas with its label table.

    Raises
    ------
    SelectionError
        No such atlas; the message lists what there is.
    SourceError
        On another grid than ``shape``, or values that are not labels.
    """
    paths = layout.roi_paths(subject, atlas, space)
    try:
        stored = read_map(source, paths, space, shape=shape).values
    except MissingDataError as error:
        raise one_of(f"atlas of {subject} in {space}", atlas, list_atlases(source, subject, space)) from error
    # NaN and what int16 cannot hold fail the comparison, so the cast may say nothing
    with np.errstate(invalid="ignore"):
        values = stored.astype(np.int16)
    if not np.array_equal(values, stored):
        raise SourceError(f"{source.join(paths[0])}: values that are not labels (whole numbers); fetch it again")
    table = read_labels(source, subject, atlas)
    present = (int(value) for value in np.unique(values) if value > 0)
    labels = {value: str(value) for value in present} | {value: name for value, name in table.items() if value > 0}
    return Atlas(atlas, values, dict(sorted(labels.items())))


def joined_roi(source: Source, subject: str, space: str, *, shape: Sequence[int] | None = None) -> Atlas:
    """The visual ROI of the published analyses: Kastner2015, overwritten by prf-visualrois where that is > 0.

    Where only one of the two is there, that one.

    Raises
    ------
    SelectionError
        Neither is there; the message lists what there is.
    SourceError
        As :func:`read_atlas`, or they are on different grids.
    """
    there = list_atlases(source, subject, space)
    if "Kastner2015" not in there or "prf-visualrois" not in there:
        only = "prf-visualrois" if "prf-visualrois" in there else "Kastner2015"
        return Atlas(JOINED, read_atlas(source, subject, only, space, shape=shape).values, dict(ROI_LABELS))
    kastner = read_atlas(source, subject, "Kastner2015", space, shape=shape)
    early = read_atlas(source, subject, "prf-visualrois", space, shape=shape)
    if early.values.shape != kastner.values.shape:
        raise SourceError(
            f"{source.join(layout.roi_paths(subject, early.name, space)[0])}: a grid of {early.values.shape} where "
            f"{kastner.name} has {kastner.values.shape}; take both from the same release"
        )
    joined = np.where(early.values > 0, early.values, kastner.values)
    return Atlas(JOINED, joined, dict(ROI_LABELS))


def read_labels(source: Source, subject: str, atlas: str) -> dict[int, str]:
    """The label table of an atlas, empty where there is none; stray tabs and blanks are dropped."""
    for path in layout.label_table_paths(subject, atlas):
        if source.exists(path):
            with source.open(path) as file:
                return _parse_labels(file.read(), source.join(path))
    return {}


def _parse_labels(data: bytes, url: str) -> dict[int, str]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{url}: not a table of numbers and names ({error}); fetch it again") from error
    labels: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(-?\d+)\s+(\S+).*", line)
        if match is None:
            raise SourceError(f"{url}: line {number} is {line.strip()!r}, not a number and a name; fetch it again")
        labels[int(match[1])] = match[2]
    return labels
