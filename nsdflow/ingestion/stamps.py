"""Stamps of NSD's files: an interrupted ingestion reads again the files that changed meanwhile, and only those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nsdflow.nsd import layout as paths
from nsdflow.nsd.experiments import EXPERIMENTS
from nsdflow.nsd.source import Source
from nsdflow.nsd.voxels.hemispheres import hemisphere_files
from nsdflow.nsd.voxels.maps import list_maps, map_paths
from nsdflow.nsd.voxels.rois import atlas_paths, list_atlases

__all__ = ["coordinate_stamps", "experiment_stamps", "file_stamp", "session_listing", "session_stamps"]


def file_stamp(source: Source, path: str) -> str | None:
    """Stamp of one file; None where it does not exist."""
    folder, _, name = path.rpartition("/")
    return source.stamps(folder).get(name)


def session_listing(source: Source, subject: str, space: str, betas: str) -> dict[str, str]:
    """Stamps of the files of all sessions by name: betas, and maps of valid voxels."""
    maps = {} if paths.is_surface(space) else source.stamps(paths.subject_folder(subject, space))
    return maps | source.stamps(paths.betas_folder(subject, space, betas))


def session_stamps(listing: Mapping[str, str], session: int | str, space: str, format: str) -> tuple[str, ...]:
    """Name and stamp of each file of a session that is read."""
    files = [*paths.betas_paths("", session, space, "", format)]
    if not paths.is_surface(space):
        files.append(paths.valid_path("", session, space))
    names = (file.rpartition("/")[2] for file in files)
    return tuple(f"{name} {listing[name]}" for name in names if name in listing)


def coordinate_stamps(source: Source, subject: str, space: str, betas: str) -> dict[str, str]:
    """Stamps of the files that coordinates come from, by path: atlases, their tables, masks, maps, behaviour."""
    files = [paths.STIMULUS_INFO, paths.responses_path(subject)]
    files += paths.statistic_paths(subject, space, betas, "ncsnr")
    for atlas in list_atlases(source, subject, space):
        files += [*atlas_paths(subject, atlas, space), *paths.label_table_paths(subject, atlas)]
    for pair in hemisphere_files(source, subject, space).values():
        files += pair
    for name in list_maps(source, subject, space, betas):
        files += map_paths(name, subject, space, betas) or ()
    if not paths.is_surface(space):
        files += [paths.volume_path(subject, space, name) for name in ("brainmask", "aseg")]
    return _stamps(source, files)


def experiment_stamps(source: Source, subject: str, experiment: str) -> dict[str, str]:
    """Stamps of the files that trials and images of a sister experiment come from, by path."""
    record = EXPERIMENTS[experiment]
    design = _stamps(source, record.design_files(subject))
    if design.keys() != set(record.design_files(subject)):
        return design  # without the design, nothing says what the images are
    return design | _stamps(source, record.image_files(source, subject))


def _stamps(source: Source, files: Iterable[str]) -> dict[str, str]:
    """Stamps of files by path, or of their gunzipped twins, from one listing per folder."""
    listings: dict[str, dict[str, str]] = {}
    found: dict[str, str] = {}
    for file in dict.fromkeys(files):
        folder = file.rpartition("/")[0]
        if folder not in listings:
            listings[folder] = source.stamps(folder)
        for candidate in (file, file.removesuffix(".gz")):
            stamp = listings[folder].get(candidate.rpartition("/")[2])
            if stamp is not None:
                found[candidate] = stamp
                break
    return found
