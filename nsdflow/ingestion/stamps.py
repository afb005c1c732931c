"""What changes when a file of NSD does: an interrupted ingestion reads again what was fetched again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nsdflow.nsd import layout as paths
from nsdflow.nsd.rois import list_atlases

if TYPE_CHECKING:
    from nsdflow.nsd.source import Source

__all__ = ["coordinate_stamps", "session_listing", "session_stamps", "subject_stamps"]


def subject_stamps(source: Source, subject: str, space: str, betas: str, sessions: Iterable[int]) -> dict[str, Any]:
    """Stamps of all that is read of a subject: under ``coordinates`` and under each session's number."""
    listing = session_listing(source, subject, space, betas)
    by_session = {str(session): session_stamps(listing, session, space) for session in sessions}
    return {"coordinates": coordinate_stamps(source, subject, space, betas), **by_session}


def session_listing(source: Source, subject: str, space: str, betas: str) -> dict[str, str]:
    """Stamps of the files of all sessions, by name: betas, and maps of what is valid."""
    maps = {} if paths.is_surface(space) else source.stamps(paths.subject_folder(subject, space))
    return maps | source.stamps(paths.betas_folder(subject, space, betas))


def session_stamps(listing: Mapping[str, str], session: int, space: str) -> list[str]:
    """What changes when the files of a session do: name, bytes and ETag or time of each that would be read."""
    formats = paths.sessions_of(listing, space).get(session)
    files = [*paths.betas_paths("", session, space, "", formats[0])] if formats else []
    if not paths.is_surface(space):
        files.append(paths.valid_path("", session, space))
    names = (file.rpartition("/")[2] for file in files)
    return [f"{name} {listing[name]}" for name in names if name in listing]


def coordinate_stamps(source: Source, subject: str, space: str, betas: str) -> dict[str, str]:
    """Stamps of the files that coordinates are made of, by path: atlases, their tables, masks, ncsnr, behaviour."""
    files = [paths.STIMULUS_INFO, paths.responses_path(subject)]
    files += paths.statistic_paths(subject, space, betas, "ncsnr")
    for atlas in list_atlases(source, subject, space):
        files += [*paths.roi_paths(subject, atlas, space), *paths.label_table_paths(subject, atlas)]
    if not paths.is_surface(space):
        files += [paths.volume_path(subject, space, name) for name in ("brainmask", "aseg")]
    folders = {file.rpartition("/")[0] for file in files}
    listings = {folder: source.stamps(folder) for folder in folders}
    stamps = {file: listings[file.rpartition("/")[0]].get(file.rpartition("/")[2]) for file in files}
    return {file: stamp for file, stamp in stamps.items() if stamp is not None}
