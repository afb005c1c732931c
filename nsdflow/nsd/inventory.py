"""What of NSD is there: from listings and headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsdflow.errors import MissingDataError, one_of
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE, SPACES
from nsdflow.nsd import layout
from nsdflow.nsd.betas import read_session_header
from nsdflow.nsd.formats.frames import read_header
from nsdflow.nsd.images import images_shape
from nsdflow.nsd.rois import list_atlases

if TYPE_CHECKING:
    from nsdflow.nsd.source import Source

__all__ = ["Inventory", "SubjectInventory", "list_betas", "take_inventory"]

_BETAS_ROOT = "nsddata_betas/ppdata"


@dataclass(frozen=True)
class SubjectInventory:
    """Betas of one subject in one space and version, and what belongs to them.

    Attributes
    ----------
    subject, space, betas : str
    sessions : tuple of int
        Sessions that can be read.
    held_out : tuple of int
        Sessions that are listed but may not be read.
    shape : tuple of int
        (i, j, k), or vertices (lh, rh).
    trials : int
        In the first session.
    affine : tuple of 4 tuples of 4 float, or None
        Voxel indices to mm: of the betas, or of another file on their grid where their format has none.
    format : str
        Ending of the files that would be read.
    atlases : tuple of str
    bytes : int
        Of the betas that would be read.
    """

    subject: str
    space: str
    betas: str
    sessions: tuple[int, ...]
    held_out: tuple[int, ...]
    shape: tuple[int, ...]
    trials: int
    affine: tuple[tuple[float, ...], ...] | None
    format: str
    atlases: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Inventory:
    """What a source holds.

    Attributes
    ----------
    subjects : tuple of SubjectInventory
        Subjects with at least one session that can be read.
    image_count : int
        Images in the brick; 0 where it is not there.
    image_shape : tuple of int
        (y, x, 3); empty where the brick is not there.
    missing : tuple of str
        Addresses of files that are needed and not there.
    bytes : int
        Betas of all subjects, and the brick.
    """

    subjects: tuple[SubjectInventory, ...]
    image_count: int
    image_shape: tuple[int, ...]
    missing: tuple[str, ...]
    bytes: int


def take_inventory(
    source: Source,
    *,
    space: str = DEFAULT_SPACE,
    betas: str = DEFAULT_BETAS,
    subjects: Iterable[str] | None = None,
) -> Inventory:
    """List what is there for some subjects (all that are found when None).

    Raises
    ------
    MissingDataError
        There are no betas at all under the source.
    SelectionError
        A subject, or the space or version for every subject, is not there; the message lists what there is.
    """
    layout.is_surface(space)
    found = source.listdir(_BETAS_ROOT)
    if not found:
        raise MissingDataError(
            f"{source.join(_BETAS_ROOT)}: no such folder; give the folder or bucket that holds nsddata_betas"
        )
    asked = tuple(subjects) if subjects is not None else tuple(n for n in found if n.startswith("subj"))
    for subject in asked:
        if subject not in found:
            raise one_of(f"subject in {source.join(_BETAS_ROOT)}", subject, found)
    taken = [_subject_inventory(source, subject, space, betas) for subject in asked]
    present = tuple(subject for subject in taken if subject is not None)
    if not present:
        raise _nothing(source, asked, space, betas)
    has_images = source.exists(layout.STIMULI)
    count, *image = images_shape(source) if has_images else (0,)
    total = sum(subject.bytes for subject in present)
    return Inventory(
        subjects=present,
        image_count=count,
        image_shape=tuple(image),
        missing=_missing(source, present),
        bytes=total + (source.size(layout.STIMULI) if has_images else 0),
    )


def list_betas(source: Source, subject: str) -> tuple[str, ...]:
    """Every ``space/version`` of betas that a subject has, whether or not all of it may be read."""
    spaces = [space for space in source.listdir(f"{_BETAS_ROOT}/{subject}") if space in SPACES]
    return tuple(
        f"{space}/{version}"
        for space in spaces
        for version in source.listdir(f"{_BETAS_ROOT}/{subject}/{space}")
        if layout.sessions_of(source.listdir(layout.betas_folder(subject, space, version)), space)
    )


def _subject_inventory(source: Source, subject: str, space: str, betas: str) -> SubjectInventory | None:
    folder = layout.betas_folder(subject, space, betas)
    sizes = source.sizes(folder)
    listed = layout.sessions_of(sizes, space)
    paths = {
        session: layout.betas_paths(subject, session, space, betas, formats[0]) for session, formats in listed.items()
    }
    # a request for each session: a bucket may list what it does not let read
    with ThreadPoolExecutor(max_workers=16) as pool:
        readable = dict(zip(paths, pool.map(lambda files: all(map(source.exists, files)), paths.values()), strict=True))
    sessions = tuple(session for session in paths if readable[session])
    if not sessions:
        return None
    header = read_session_header(source, subject, sessions[0], space=space, betas=betas)
    return SubjectInventory(
        subject=subject,
        space=space,
        betas=betas,
        sessions=sessions,
        held_out=tuple(session for session in paths if not readable[session]),
        shape=header.shape,
        trials=header.trials,
        affine=header.affine or _affine_beside(source, subject, space, betas, header.shape),
        format=", ".join(sorted({listed[session][0] for session in sessions})),
        atlases=list_atlases(source, subject, space),
        bytes=sum(sizes[path.rpartition("/")[2]] for session in sessions for path in paths[session]),
    )


def _affine_beside(
    source: Source, subject: str, space: str, betas: str, shape: Sequence[int]
) -> tuple[tuple[float, ...], ...] | None:
    """The affine of another file on the grid of the betas, where those have none (``.hdf5``, ``.mat``)."""
    if layout.is_surface(space):
        return None
    volumes = [layout.volume_path(subject, space, name) for name in ("brainmask", "aseg", "R2")]
    volumes += layout.statistic_paths(subject, space, betas, "ncsnr")
    volumes += [
        path for atlas in list_atlases(source, subject, space) for path in layout.roi_paths(subject, atlas, space)
    ]
    headers = (read_header(source, path) for path in volumes if source.exists(path))
    return next((header.affine for header in headers if header.shape == tuple(shape)), None)


def _missing(source: Source, subjects: Iterable[SubjectInventory]) -> tuple[str, ...]:
    """What ingestion reads besides betas and is not there."""
    wanted = [layout.EXPERIMENT_DESIGN, layout.STIMULI]
    for subject in subjects:
        name, space = subject.subject, subject.space
        wanted += layout.statistic_paths(name, space, subject.betas, "ncsnr")
        for atlas in layout.wanted_atlases(space):
            wanted += layout.roi_paths(name, atlas, space)
        if layout.is_surface(space):
            folder = layout.betas_folder(name, space, subject.betas)
            wanted += [f"{folder}/{half}" for half in layout.missing_halves(source.listdir(folder))]
        else:
            wanted += [layout.volume_path(name, space, volume) for volume in ("brainmask", "aseg")]
            wanted += [layout.valid_path(name, session, space) for session in subject.sessions]
    with ThreadPoolExecutor(max_workers=16) as pool:
        there = dict(zip(wanted, pool.map(source.exists, wanted), strict=True))  # subjects share files of fsaverage
    return tuple(source.join(path) for path, exists in there.items() if not exists)


def _nothing(source: Source, subjects: tuple[str, ...], space: str, betas: str) -> Exception:
    """The error for a space or version that no subject has."""
    spaces = {name for subject in subjects for name in source.listdir(f"{_BETAS_ROOT}/{subject}")}
    if space not in spaces:
        return one_of(f"space in {source.join(_BETAS_ROOT)}", space, sorted(spaces & set(SPACES)))
    versions = {name for subject in subjects for name in source.listdir(f"{_BETAS_ROOT}/{subject}/{space}")}
    if betas not in versions:
        return one_of(f"betas version in {space}", betas, sorted(versions))
    return MissingDataError(
        f"{source.join(layout.betas_folder(subjects[0], space, betas))}: no session that can be read; "
        "check permissions, or fetch the betas"
    )
