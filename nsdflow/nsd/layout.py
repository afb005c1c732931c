"""Paths of NSD's files relative to the root of a source, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from nsdflow.errors import one_of
from nsdflow.names import SPACES

__all__ = [
    "BETAS_FORMATS",
    "BETAS_IN_SPACE",
    "EXPERIMENT_DESIGN",
    "STIMULUS_INFO",
    "atlas_folder",
    "betas_folder",
    "betas_paths",
    "is_surface",
    "label_table_paths",
    "missing_halves",
    "responses_path",
    "roi_paths",
    "session_name",
    "sessions_of",
    "statistic_paths",
    "subject_folder",
    "valid_path",
    "volume_path",
    "wanted_atlases",
]

EXPERIMENT_DESIGN: Final = "nsddata/experiments/nsd/nsd_expdesign.mat"
STIMULUS_INFO: Final = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"

#: Formats in which a space's betas are (or were) released, best first: a .nii.gz holds a quarter of the bytes.
BETAS_FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "func1pt8mm": ("nii.gz", "nii", "hdf5", "mat"),
    "func1mm": ("nii.gz", "nii", "hdf5", "mat"),
    "nativesurface": ("hdf5",),
    "fsaverage": ("mgh", "mgz"),
    "MNI": ("nii.gz", "nii"),
}
#: Versions that NSD publishes in a space, where it does not publish all three.
BETAS_IN_SPACE: Final[Mapping[str, tuple[str, ...]]] = {"MNI": ("betas_fithrf",)}

_HEMISPHERES: Final = ("lh", "rh")


def is_surface(space: str) -> bool:
    """Whether a "voxel" of this space is a vertex: first all of the left hemisphere, then all of the right.

    Raises
    ------
    SelectionError
        NSD publishes no betas in such a space.
    """
    if space not in SPACES:
        raise one_of("space", space, SPACES)
    return space in ("nativesurface", "fsaverage")


def _by_hemisphere(folder: str, name: str, space: str) -> tuple[str, ...]:
    """``(folder/name,)`` for volumes, ``(folder/lh.name, folder/rh.name)`` for surfaces."""
    if is_surface(space):
        return tuple(f"{folder}/{hemisphere}.{name}" for hemisphere in _HEMISPHERES)
    return (f"{folder}/{name}",)


def subject_folder(subject: str, space: str) -> str:
    """Folder of a subject's anatomical and functional volumes in a volume space (MNI has none)."""
    return f"nsddata/ppdata/{subject}/{space}"


def betas_folder(subject: str, space: str, betas: str) -> str:
    """Folder of one version of a subject's single-trial betas and the maps that belong to it."""
    return f"nsddata_betas/ppdata/{subject}/{space}/{betas}"


def session_name(session: int | str) -> str:
    """A session in file names; the session of a sister experiment has the name of the experiment.

    >>> session_name(3), session_name("nsdsynthetic")
    ('session03', 'nsdsynthetic')
    """
    return session if isinstance(session, str) else f"session{session:02d}"


def betas_paths(subject: str, session: int | str, space: str, betas: str, format: str) -> tuple[str, ...]:
    """The file of a session (volumes) or its two, lh and rh (surfaces)."""
    return _by_hemisphere(betas_folder(subject, space, betas), f"betas_{session_name(session)}.{format}", space)


def sessions_of(names: Iterable[str], space: str) -> dict[int, tuple[str, ...]]:
    """Sessions among the names of a betas folder: ``{session: formats, best first}``.

    A session of a surface counts in a format if both hemispheres exist.
    """
    present = set(names)
    pattern = re.compile(r"(?:lh\.)?betas_session(\d+)\.(.+)")
    numbers = {int(match[1]) for name in present if (match := pattern.fullmatch(name))}
    found = {
        session: tuple(
            format
            for format in BETAS_FORMATS[space]
            if all(path.rpartition("/")[2] in present for path in betas_paths("", session, space, "", format))
        )
        for session in sorted(numbers)
    }
    return {session: formats for session, formats in found.items() if formats}


def missing_halves(names: Iterable[str]) -> tuple[str, ...]:
    """Missing files of the sessions of a surface that have one hemisphere only.

    >>> missing_halves(["lh.betas_session01.mgh", "rh.betas_session01.mgh", "lh.betas_session02.mgh"])
    ('rh.betas_session02.mgh',)
    """
    present = set(names)
    halves = {"lh": "rh", "rh": "lh"}
    others = (f"{halves[name[:2]]}{name[2:]}" for name in present if re.fullmatch(r"[lr]h\.betas_session\d+\..+", name))
    return tuple(sorted(name for name in others if name not in present))


def statistic_paths(subject: str, space: str, betas: str, name: str) -> tuple[str, ...]:
    """Files of a map that belongs to a version of the betas, such as ``ncsnr``; one per hemisphere on a surface."""
    ending = "mgh" if is_surface(space) else "nii.gz"
    return _by_hemisphere(betas_folder(subject, space, betas), f"{name}.{ending}", space)


def volume_path(subject: str, space: str, name: str) -> str:
    """A volume of the subject, such as ``brainmask``, ``aseg``, ``R2`` or ``valid_session01``."""
    return f"{subject_folder(subject, space)}/{name}.nii.gz"


def valid_path(subject: str, session: int | str, space: str) -> str:
    """Map of the voxels with data in every volume of a session; in MNI beside the betas."""
    name = f"valid_{session_name(session)}"
    if space == "MNI":
        return f"{betas_folder(subject, space, BETAS_IN_SPACE[space][0])}/{name}.nii.gz"
    return volume_path(subject, space, name)


def atlas_folder(subject: str, space: str) -> str | None:
    """Folder of the ROI volumes, or of the labels of a surface; None in MNI, where NSD publishes no atlases."""
    if space == "MNI":
        return None
    if not is_surface(space):
        return f"{subject_folder(subject, space)}/roi"
    return f"nsddata/freesurfer/{'fsaverage' if space == 'fsaverage' else subject}/label"


def wanted_atlases(space: str) -> tuple[str, ...]:
    """Atlases that ingestion expects; prf-visualrois was drawn for each subject, so fsaverage lacks it."""
    if space == "MNI":
        return ()
    return ("Kastner2015", "nsdgeneral") if space == "fsaverage" else ("prf-visualrois", "Kastner2015", "nsdgeneral")


def roi_paths(subject: str, atlas: str, space: str) -> tuple[str, ...]:
    """The ROI volume of an atlas (both hemispheres), or its two label files on a surface."""
    return _by_hemisphere(
        atlas_folder(subject, space) or f"nsddata/ppdata/{subject}/MNI/roi",
        f"{atlas}.{'mgz' if is_surface(space) else 'nii.gz'}",
        space,
    )


def label_table_paths(subject: str, atlas: str) -> tuple[str, ...]:
    """Files that may hold the names of an atlas' labels, first choice first."""
    return (
        f"nsddata/freesurfer/{subject}/label/{atlas}.mgz.ctab",
        f"nsddata/freesurfer/fsaverage/label/{atlas}.mgz.ctab",
        f"nsddata/templates/{atlas}.ctab",
    )


def responses_path(subject: str) -> str:
    """Table of behaviour, one row per trial."""
    return f"nsddata/ppdata/{subject}/behav/responses.tsv"
