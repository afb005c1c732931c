"""Contents of a source, from listings, headers and small files only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from nsdflow.errors import MOST_NAMES, MissingDataError, NsdflowError, one_of
from nsdflow.io.paths import is_local
from nsdflow.io.places import NSD, not_wanted
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE, SPACES, STIMULI_FILE, number_ranges
from nsdflow.nsd import layout
from nsdflow.nsd.betas import read_session_header
from nsdflow.nsd.design import behaviour_gaps
from nsdflow.nsd.formats.frames import read_header
from nsdflow.nsd.images import images_shape
from nsdflow.nsd.sessions import choose_sessions
from nsdflow.nsd.source import Source
from nsdflow.nsd.voxels.maps import list_maps, map_problem
from nsdflow.nsd.voxels.reserved_names import atlas_trouble
from nsdflow.nsd.voxels.rois import atlas_paths, list_atlases, read_atlas

__all__ = ["Inventory", "SubjectInventory", "list_betas", "take_inventory"]

_BETAS_ROOT = "nsddata_betas/ppdata"
_NO_COCO = "COCO's numbers are left out"
#: Enough for the first line of a table.
_HEADER_BYTES = 4096
_SUBJECT = re.compile(r"subj\d\d")
#: Affine of NSD's volumes in MNI space, 182 x 218 x 182 of 1 mm, first axis left to right.
MNI_AFFINE = ((1.0, 0.0, 0.0, -91.0), (0.0, 1.0, 0.0, -126.0), (0.0, 0.0, 1.0, -72.0), (0.0, 0.0, 0.0, 1.0))


@dataclass(frozen=True)
class SubjectInventory:
    """Betas of one subject in one space and version, and the files that belong to them.

    Attributes
    ----------
    subject, space, betas : str
    sessions : tuple of int
        Sessions that can be read.
    formats : dict
        Ending of the files that are read, by session.
    held_out : tuple of int
        Sessions that are listed but cannot be read.
    left_out : tuple of str
        One line per file that is listed and not used, with the reason.
    shape : tuple of int
        (i, j, k), or vertices (lh, rh).
    trials : int
        Trials of the first session.
    affine : tuple of 4 tuples of 4 float, or None
        Voxel indices to mm: of the betas, or of another file on their grid where their format has none.
    atlases : tuple of str
        Atlases that can be read.
    maps : tuple of str
        Published maps that exist, as coordinates are called.
    bytes : int
        Bytes of the betas that are read.
    """

    subject: str
    space: str
    betas: str
    sessions: tuple[int, ...]
    formats: Mapping[int, str] = field(hash=False)
    held_out: tuple[int, ...]
    left_out: tuple[str, ...]
    shape: tuple[int, ...]
    trials: int
    affine: tuple[tuple[float, ...], ...] | None
    atlases: tuple[str, ...]
    maps: tuple[str, ...]
    bytes: int

    @property
    def format(self) -> str:
        """Formats of the betas that are read."""
        return ", ".join(sorted(set(self.formats.values())))


@dataclass(frozen=True)
class Inventory:
    """Content of a source.

    Attributes
    ----------
    subjects : tuple of SubjectInventory
        Subjects with at least one session that can be read.
    image_count : int
        Images in the brick; 0 where it does not exist.
    image_shape : tuple of int
        (y, x, 3); empty where the brick does not exist.
    missing : tuple of str
        Addresses of files that ingestion reads and that do not exist.
    bytes : int
        Bytes of the betas of all subjects and of the brick.
    others : tuple of str
        A line per folder beside those of the subjects that is not taken for one.
    """

    subjects: tuple[SubjectInventory, ...]
    image_count: int
    image_shape: tuple[int, ...]
    missing: tuple[str, ...]
    bytes: int
    others: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Lines of all subjects on files that are listed and not used."""
        lines = (line for subject in self.subjects for line in subject.left_out)
        return tuple(dict.fromkeys((*self.others, *lines)))


def take_inventory(
    source: Source,
    *,
    space: str = DEFAULT_SPACE,
    betas: str = DEFAULT_BETAS,
    subjects: Iterable[str] | None = None,
    sessions: Iterable[int] | None = None,
) -> Inventory:
    """List the files of some subjects.

    Parameters
    ----------
    sessions : iterable of int, optional
        Sessions to consider, 1-based; of subjects with fewer, those that they have. All by default.

    Returns
    -------
    Inventory
        Subjects without a readable session are absent.

    Raises
    ------
    MissingDataError
        The source has no betas at all, or none of the sessions.
    SelectionError
        A subject, or the space or version of every subject, does not exist; the message lists those that do.
    """
    layout.is_surface(space)
    found = source.listdir(_BETAS_ROOT)
    if not found:
        if is_local(source.url) and (other := not_wanted(source.url, NSD)):
            raise MissingDataError(f"{source.join('')} is {other}")
        raise MissingDataError(
            f"{source.join(_BETAS_ROOT)}: no such folder; give the folder or bucket that holds nsddata_betas"
        )
    named = tuple(name for name in found if _SUBJECT.fullmatch(name))
    others = tuple(
        f"{source.join(_BETAS_ROOT)}/{name} has not the name of a subject, such as subj01; it is left out"
        for name in found
        if name not in named and name.lower().startswith("sub")
    )
    asked = tuple(subjects) if subjects is not None else named
    if not asked:
        raise MissingDataError(
            f"{source.join(_BETAS_ROOT)}: no folder such as subj01; it has {', '.join(found[:MOST_NAMES])}"
        )
    for subject in asked:
        if subject not in found:
            raise one_of(f"subject in {source.join(_BETAS_ROOT)}", subject, found)
    wanted = None if sessions is None else frozenset(sessions)
    taken = [_subject_inventory(source, subject, space, betas, wanted) for subject in asked]
    present = tuple(subject for subject in taken if subject is not None)
    if not present:
        raise _nothing(source, asked, space, betas, wanted)
    has_images = source.exists(STIMULI_FILE)
    count, *image = images_shape(source) if has_images else (0,)
    total = sum(subject.bytes for subject in present)
    return Inventory(
        subjects=present,
        image_count=count,
        image_shape=tuple(image),
        missing=_missing(source, present),
        bytes=total + (source.size(STIMULI_FILE) if has_images else 0),
        others=others if subjects is None else (),
    )


def list_betas(source: Source, subject: str) -> tuple[str, ...]:
    """Every ``space/version`` of betas of a subject, also those that cannot be read in full."""
    spaces = [space for space in source.listdir(f"{_BETAS_ROOT}/{subject}") if space in SPACES]
    return tuple(
        f"{space}/{version}"
        for space in spaces
        for version in source.listdir(f"{_BETAS_ROOT}/{subject}/{space}")
        if layout.sessions_of(source.listdir(layout.betas_folder(subject, space, version)), space)
    )


def _subject_inventory(
    source: Source, subject: str, space: str, betas: str, wanted: frozenset[int] | None
) -> SubjectInventory | None:
    sizes = source.sizes(layout.betas_folder(subject, space, betas))
    if wanted is not None:
        unwanted = set(layout.sessions_of(sizes, space)) - wanted
        sizes = {name: size for name, size in sizes.items() if not _of_session(name, unwanted)}
    found = choose_sessions(source, subject, space, betas, sizes)
    if not found.formats:
        return None
    sessions = tuple(found.formats)
    header = read_session_header(
        source, subject, sessions[0], space=space, betas=betas, format=found.formats[sessions[0]]
    )
    atlases, broken = _usable_atlases(source, subject, space, header.shape)
    maps, odd = _usable_maps(source, subject, space, betas, header.shape)
    files = [
        path
        for session, format in found.formats.items()
        for path in layout.betas_paths(subject, session, space, betas, format)
    ]
    return SubjectInventory(
        subject=subject,
        space=space,
        betas=betas,
        sessions=sessions,
        formats=found.formats,
        held_out=found.held_out,
        left_out=(*found.left_out, *broken, *odd, *_unreadable_tables(source, subject, sessions)),
        shape=header.shape,
        trials=header.trials,
        affine=header.affine or _affine_beside(source, subject, space, betas, header.shape, atlases),
        atlases=atlases,
        maps=maps,
        bytes=sum(sizes[path.rpartition("/")[2]] for path in files),
    )


def _of_session(name: str, sessions: Iterable[int]) -> bool:
    """Whether a file of the betas belongs to one of some sessions."""
    return any(f"betas_session{session:02d}." in name for session in sessions)


def _usable_atlases(
    source: Source, subject: str, space: str, shape: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Atlases that can be read on the grid of the betas, and a line for each of the others."""

    names = list_atlases(source, subject, space)

    def problem(atlas: str) -> str | None:
        if (trouble := atlas_trouble(atlas, names[: names.index(atlas)])) is not None:
            return f"{source.join(atlas_paths(subject, atlas, space)[0])}: {trouble}; rename the file"
        try:
            read_atlas(source, subject, atlas, space, shape=shape)
        except NsdflowError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=4) as pool:
        problems = dict(zip(names, pool.map(problem, names), strict=True))
    lines = (f"{line}; the atlas is left out" for line in problems.values() if line)
    return tuple(name for name, line in problems.items() if line is None), tuple(lines)


def _usable_maps(
    source: Source, subject: str, space: str, betas: str, shape: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Published maps whose headers fit to the betas, and a line for each of the others."""
    grids = [(size, 1, 1) for size in shape] if layout.is_surface(space) else [shape]

    def problem(name: str) -> str | None:
        try:
            return map_problem(source, name, subject, space, betas, grids)
        except NsdflowError as error:
            return str(error)

    names = list_maps(source, subject, space, betas)
    with ThreadPoolExecutor(max_workers=16) as pool:
        problems = dict(zip(names, pool.map(problem, names), strict=True))
    lines = (f"{line}; the map {name} is left out" for name, line in problems.items() if line)
    return tuple(name for name, line in problems.items() if line is None), tuple(lines)


def _unreadable_tables(source: Source, subject: str, sessions: Iterable[int]) -> tuple[str, ...]:
    """A line per optional table that is listed and cannot be read, or lacks columns or sessions."""
    lines = []
    tables = {layout.responses_path(subject): "behaviour is left out", layout.STIMULUS_INFO: _NO_COCO}
    for path, lost in tables.items():
        folder, _, name = path.rpartition("/")
        if name not in source.listdir(folder):
            continue
        if (reason := source.trouble(path)) is not None:
            lines.append(f"{source.join(path)} {reason}; {lost}")
        elif lost == _NO_COCO and b"cocoId" not in source.head(path, _HEADER_BYTES).partition(b"\n")[0]:
            lines.append(f"{source.join(path)} has no column cocoId; {lost}")
        elif lost != _NO_COCO:
            with suppress(NsdflowError):  # ingestion refuses it
                lines += (f"{source.join(path)} has {gap}" for gap in behaviour_gaps(source, subject, sessions))
    return tuple(lines)


def _affine_beside(
    source: Source, subject: str, space: str, betas: str, shape: Sequence[int], atlases: Iterable[str]
) -> tuple[tuple[float, ...], ...] | None:
    """The affine of another file on the grid of the betas, where those have none (``.hdf5``, ``.mat``, zeros)."""
    if layout.is_surface(space):
        return None
    if space == "MNI":
        return MNI_AFFINE
    volumes = [layout.volume_path(subject, space, name) for name in ("brainmask", "aseg", "R2")]
    volumes += layout.statistic_paths(subject, space, betas, "ncsnr")
    volumes += [path for atlas in atlases for path in atlas_paths(subject, atlas, space)]
    for path in volumes:
        with suppress(NsdflowError):  # who needs a broken one will say so
            header = read_header(source, found) if (found := source.find(path)) else None
            if header is not None and header.shape == tuple(shape) and header.affine is not None:
                return header.affine
    return None


def _missing(source: Source, subjects: Iterable[SubjectInventory]) -> tuple[str, ...]:
    """Files other than betas that ingestion reads and that do not exist."""
    wanted = [layout.EXPERIMENT_DESIGN, STIMULI_FILE]
    for subject in subjects:
        name, space = subject.subject, subject.space
        if space != "MNI":
            wanted += layout.statistic_paths(name, space, subject.betas, "ncsnr")
        for atlas in layout.wanted_atlases(space):
            wanted += layout.roi_paths(name, atlas, space)
        if layout.is_surface(space):
            folder = layout.betas_folder(name, space, subject.betas)
            wanted += [f"{folder}/{half}" for half in layout.missing_halves(source.listdir(folder))]
        elif space != "MNI":
            wanted += [layout.volume_path(name, space, volume) for volume in ("brainmask", "aseg")]
        if not layout.is_surface(space):
            wanted += [layout.valid_path(name, session, space) for session in subject.sessions]
    with ThreadPoolExecutor(max_workers=16) as pool:
        there = dict(zip(wanted, pool.map(source.find, wanted), strict=True))  # subjects share files of fsaverage
    return tuple(source.join(path) for path, found in there.items() if not found)


def _nothing(
    source: Source, subjects: tuple[str, ...], space: str, betas: str, wanted: frozenset[int] | None
) -> Exception:
    """The error for a space or version that no subject has."""
    spaces = {name for subject in subjects for name in source.listdir(f"{_BETAS_ROOT}/{subject}")}
    if space not in spaces:
        return one_of(f"space in {source.join(_BETAS_ROOT)}", space, sorted(spaces & set(SPACES)))
    versions = {name for subject in subjects for name in source.listdir(f"{_BETAS_ROOT}/{subject}/{space}")}
    if betas not in versions:
        return one_of(f"betas version in {space}", betas, sorted(versions))
    folder = layout.betas_folder(subjects[0], space, betas)
    listed = layout.sessions_of(source.listdir(folder), space)
    if wanted is not None and listed and not wanted & set(listed):
        return MissingDataError(
            f"{source.join(folder)}: none of the sessions asked for; it has {number_ranges(listed)}, asked for "
            f"{number_ranges(wanted)}"
        )
    reasons = choose_sessions(source, subjects[0], space, betas, source.sizes(folder)).left_out
    why = f" ({reasons[0]})" if reasons else ""
    return MissingDataError(
        f"{source.join(folder)}: no session that can be read{why}; check permissions, or copy the betas"
    )
