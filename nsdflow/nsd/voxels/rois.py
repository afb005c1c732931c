"""Atlases: a label for each voxel and the names of the labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import NsdflowError, SourceError, one_of
from nsdflow.names import PRF_VISUALROIS, ROI_LABELS
from nsdflow.nsd import layout
from nsdflow.nsd.formats.frames import read_header
from nsdflow.nsd.formats.label_tables import distinct_names, parse_label_table
from nsdflow.nsd.source import Source
from nsdflow.nsd.voxels.maps import is_map_label
from nsdflow.nsd.voxels.segmentations import SEGMENTATIONS
from nsdflow.nsd.voxels.volumes import read_map

__all__ = [
    "ATLASES",
    "JOINED",
    "Atlas",
    "PublishedAtlas",
    "atlas_paths",
    "joined_roi",
    "list_atlases",
    "read_atlas",
    "read_labels",
]

#: Name of the joined visual ROI, prf-visualrois written over Kastner2015.
JOINED: Final = "roi"


@dataclass(frozen=True)
class PublishedAtlas:
    """Properties of an atlas that are known before its files are read.

    Attributes
    ----------
    highest : int
        The highest label that NSD publishes. Larger values are damage, such as -1 stored as 255.
    names : mapping
        Names of the labels, for copies without a label table; empty where they are not documented.
    """

    highest: int
    names: Mapping[int, str] = field(default_factory=dict)


def _named(*names: str) -> PublishedAtlas:
    return PublishedAtlas(len(names), dict(enumerate(names, start=1)))


_KASTNER = {**ROI_LABELS, 12: "TO2", 13: "TO1", 16: "V3B", 17: "V3A"}

#: Limit of labels if their number is not documented; 255 is -1 saved without its sign.
_MOST_LABELS: Final = 254

#: Atlases that NSD publishes. Other files in the folder of the ROIs are atlases too, with labels of any height.
ATLASES: Final[Mapping[str, PublishedAtlas]] = {
    "prf-visualrois": _named(*PRF_VISUALROIS.values()),
    "prf-eccrois": _named("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "Kastner2015": _named(*_KASTNER.values()),
    "nsdgeneral": _named("nsdgeneral"),
    "streams": _named("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "floc-faces": _named("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-bodies": _named("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-places": _named("OPA", "PPA", "RSC"),
    "floc-words": _named("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "HCP_MMP1": PublishedAtlas(180),
    "corticalsulc": PublishedAtlas(28),
    "visualsulc": PublishedAtlas(14),
    "thalamus": _named("LGN", "SC", "ventral_pulvinar", "dorsolateral_pulvinar", "dorsomedial_pulvinar"),
    "MTL": _named("ERC", "area35", "area36", "PHC", "Sub", "CA1", "CA2", "CA3", "DG", "HT"),
    **{name: PublishedAtlas(_MOST_LABELS) for name in ("gVTC", "hVTC", "gEVC", "fVTC")},
    **{name: PublishedAtlas(max(labels), labels) for name, labels in SEGMENTATIONS.items()},
}

#: Atlases that are known by their names on a surface, with or without a label table.
_ON_SURFACES: Final = ATLASES.keys() - {"thalamus", "MTL", *SEGMENTATIONS}


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
        Name of each label from 1 on, each name once: from the label table, else as published, else the number.
    """

    name: str
    values: NDArray[np.int16]
    labels: dict[int, str]


def list_atlases(source: Source, subject: str, space: str) -> tuple[str, ...]:
    """Sorted names of the atlases of the source, whether or not their files can be read.

    On a surface, whose label folder also holds maps, an atlas is known as one, or has a label table, or is stored as
    integers under a name that no published map has.
    """
    if layout.atlas_folder(subject, space) is None:
        return ()
    names = source.listdir(str(layout.atlas_folder(subject, space)))
    if layout.is_surface(space):
        tables = {name.removesuffix(".mgz.ctab") for name in names if name.endswith(".mgz.ctab")}
        halves = [name for name in names if name.endswith(".mgz")]
        left, right = ({name[3:-4] for name in halves if name.startswith(start)} for start in ("lh.", "rh."))
        both, known = left & right, tables | _ON_SURFACES
        others = {name for name in both - known - ATLASES.keys() if not is_map_label(name)}
        integers = {name for name in others if _holds_integers(source, layout.roi_paths(subject, name, space)[0])}
        return tuple(sorted((both & known) | integers))
    # macOS leaves ._ files
    whole = {name for name in _stems(names) if not name.startswith(("lh.", "rh.", "."))}
    beside = SEGMENTATIONS.keys() & _stems(source.listdir(layout.subject_folder(subject, space)))
    return tuple(sorted(whole | beside))


def _holds_integers(source: Source, path: str) -> bool:
    """Whether the values of a file are stored as integers; also True if it cannot be read, which its reader reports."""
    try:
        return read_header(source, path).dtype.kind in "iu"
    except NsdflowError:
        return True


def _stems(names: Iterable[str]) -> set[str]:
    """Names of volumes without ending."""
    return {name.removesuffix(".gz").removesuffix(".nii") for name in names if name.endswith((".nii.gz", ".nii"))}


def atlas_paths(subject: str, atlas: str, space: str) -> tuple[str, ...]:
    """Files of an atlas; FreeSurfer's segmentations lie beside the maps of a volume."""
    if atlas in SEGMENTATIONS and not layout.is_surface(space):
        return (layout.volume_path(subject, space, atlas),)
    return layout.roi_paths(subject, atlas, space)


def read_atlas(source: Source, subject: str, atlas: str, space: str, *, shape: Sequence[int] | None = None) -> Atlas:
    """Read the labels of an atlas on the whole grid, and their names.

    Parameters
    ----------
    subject, atlas, space : str
        For example ``"subj01"``, ``"floc-faces"``, ``"func1pt8mm"``.
    shape : sequence of int, optional
        The grid that the files must have.

    Raises
    ------
    SelectionError
        No such atlas; the message lists those that exist.
    MissingDataError
        The atlas is listed but its file cannot be read.
    SourceError
        Another grid than ``shape``, values that are not labels, or labels that the atlas does not have.
    """
    paths = atlas_paths(subject, atlas, space)
    if not all(source.exists(path) for path in paths) and atlas not in (known := list_atlases(source, subject, space)):
        raise one_of(f"atlas of {subject} in {space}", atlas, known)
    stored = read_map(source, paths, space, shape=shape).values
    # NaN and numbers beyond int16 fail the comparison below, so the cast needs no warning
    with np.errstate(invalid="ignore"):
        values = stored.astype(np.int16)
    if not np.array_equal(values, stored):
        raise SourceError(f"{source.join(paths[0])}: values that are not labels (whole numbers); copy it again")
    published = ATLASES.get(atlas)
    if published is not None and not -1 <= values.min() <= values.max() <= published.highest:
        odd = values.max() if values.max() > published.highest else values.min()
        raise SourceError(
            f"{source.join(paths[0])}: label {odd} where {atlas} has -1 to {published.highest} "
            "(255 is -1 saved without its sign); copy the published file"
        )
    present = (int(value) for value in np.unique(values) if value > 0)
    labels = {value: str(value) for value in present} | _names(source, subject, atlas)
    return Atlas(atlas, values, distinct_names(dict(sorted(labels.items()))))


def joined_roi(
    source: Source,
    subject: str,
    space: str,
    *,
    shape: Sequence[int] | None = None,
    among: Collection[str] | None = None,
) -> Atlas:
    """The visual ROI of the published analyses: Kastner2015, overwritten by prf-visualrois where that is > 0.

    Where only one of the two exists, that one.

    Parameters
    ----------
    source : Source
        Where NSD is.
    subject, space : str
        For example ``"subj01"``, ``"func1pt8mm"``.
    shape : sequence of int, optional
        The grid that the files must have.
    among : collection of str, optional
        Atlases to use; all that are listed by default.

    Returns
    -------
    Atlas
        Labels of the whole grid.

    Raises
    ------
    SelectionError
        Neither exists; the message lists the atlases that do.
    SourceError
        As :func:`read_atlas`, or they are on different grids.
    """
    there = list_atlases(source, subject, space) if among is None else among
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
    """The label table of an atlas, empty where there is none.

    Raises
    ------
    SourceError
        The table is not readable, see :func:`nsdflow.nsd.formats.label_tables.parse_label_table`.
    """
    for path in layout.label_table_paths(subject, atlas):
        if source.exists(path):
            with source.open(path) as file:
                return parse_label_table(file.read(), source.join(path))
    return {}


def _names(source: Source, subject: str, atlas: str) -> dict[int, str]:
    """Names of the labels from 1 on: those of the table, or the published ones where there is no table."""
    table = read_labels(source, subject, atlas)
    if not table and atlas in ATLASES:
        table = dict(ATLASES[atlas].names)
    return {label: name for label, name in table.items() if label > 0}
