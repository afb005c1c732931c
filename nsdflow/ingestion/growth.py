"""Comparison of an ingestion with a published store: the same, an addition, or a conflict."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from nsdflow.errors import StoreError
from nsdflow.ingestion.settings import GROWING, IngestSettings, differences, settings_of
from nsdflow.io.flush import flush_folder, flush_tree
from nsdflow.io.paths import is_local
from nsdflow.io.places import STORE, not_wanted
from nsdflow.io.read import read_bytes
from nsdflow.names import number_ranges
from nsdflow.nsd.experiments import parse_experiments

__all__ = ["Growth", "compare_with_store", "exchange"]

#: Files of coordinates that a note names, before "and N more".
FILES_SHOWN: Final = 4
#: Linux's renameat2: exchange two names in one step; and "relative to the working folder".
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100


@dataclass(frozen=True)
class Growth:
    """Additions of an ingestion to a published store.

    Attributes
    ----------
    sessions : dict
        Sessions that the published store has already, by subject.
    complete : bool
        It has all subjects and sessions that are asked for.
    notes : tuple of str
        Lines for the plan.
    settings : IngestSettings
        Those of the grown store: with all its experiments, and its layout where the ingestion gives none.
    """

    settings: IngestSettings

    sessions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    complete: bool = False
    notes: tuple[str, ...] = ()

    def stored(self, subject: str) -> tuple[int, ...]:
        """Sessions of a subject that need not be read again."""
        return self.sessions.get(subject, ())


def read_manifest(store: str) -> dict[str, Any] | None:
    """The manifest of a published store; None where there is none."""
    try:
        manifest = json.loads(read_bytes(f"{store}/manifest.json"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("subjects"), dict) else None


def compare_with_store(
    store: str,
    settings: IngestSettings,
    source: str,
    schema: int,
    found: Mapping[str, tuple[int, ...]],
    coordinates: Callable[[str], Iterable[str]],
) -> tuple[Growth, dict[str, tuple[int, ...]]]:
    """Find what a published store lacks.

    Parameters
    ----------
    store : str
        Path or URL of the published store.
    source : str
        Address of NSD.
    schema : int
        Version of the schema of new stores.
    found : mapping
        Sessions of the source by subject, as far as they are asked for.
    coordinates : callable
        Gives the paths of the files that coordinates of a subject come from.

    Returns
    -------
    Growth
        The comparison.
    sessions : dict
        Sessions that the store has in the end, by subject: those it has, and those that are asked for.

    Raises
    ------
    StoreError
        Another file or folder has the name; the store was made with other settings; or sessions would have to be
        inserted before those that it has.
    """
    manifest = read_manifest(store)
    if manifest is None:
        other = not_wanted(store, STORE) or "exists and is not a store that ingest made; remove it"
        raise StoreError(f"{store}: {other}, or choose another store")
    settings = settings.with_layout_of(manifest)
    now = settings_of({"settings": settings.record(), "source": source, "schema": schema})
    if changed := differences(settings_of(manifest), json.loads(json.dumps(now)), ignore=(*GROWING, "experiments")):
        raise StoreError(
            f"{store}: exists with other {', '.join(changed)} ({'; '.join(changed.values())}); "
            "choose another store, or remove this one"
        )
    before = {name: tuple(record["sessions"]) for name, record in manifest["subjects"].items()}
    in_the_end = {
        name: _together(store, name, before.get(name, ()), found.get(name, ())) for name in {**before, **found}
    }
    in_the_end = dict(sorted(in_the_end.items()))
    had = tuple(settings_of(manifest)["experiments"])
    settings = replace(settings, experiments=parse_experiments((*had, *settings.experiments)))
    files = {name: _new_files(manifest["subjects"][name], coordinates(name)) for name in before if name in found}
    files = {name: new for name, new in files.items() if new}
    grows = in_the_end != before or settings.experiments != had
    if not grows and (not files or not is_local(store)):
        notes = [f"{store} holds all of this already; nothing is to be done"]
        if files:
            notes.append(
                f"the source has files that the store was made without: {_listed(files)}; a store in a bucket does not "
                "gain them, so ingest into another store"
            )
        return Growth(settings, before, complete=True, notes=tuple(notes)), before
    if not is_local(store):
        raise StoreError(
            f"{store}: exists, and subjects, sessions and experiments can be added to a store on a file system only; "
            "choose another store"
        )
    added = {name: sorted(set(all_) - set(before.get(name, ()))) for name, all_ in in_the_end.items()}
    lines = [f"{name} sessions {number_ranges(new)}" for name, new in added.items() if new]
    lines += [f"experiment {name}" for name in settings.experiments if name not in had]
    lines += [f"coordinates of {_listed(files)}"] if files else []
    note = f"added to the store, which keeps what it has: {'; '.join(lines)}"
    return Growth(settings, before, notes=(note,)), in_the_end


def _new_files(record: Mapping[str, Any], paths: Iterable[str]) -> tuple[str, ...]:
    """Files of coordinates that a subject of the store was made without, atlases and maps above all."""
    known = record.get("files", {}).get("coordinates")
    if known is None:  # of version 0.1.0, which did not list them
        return ()
    had = {path.removesuffix(".gz") for path in known}
    return tuple(sorted(path for path in paths if path.removesuffix(".gz") not in had))


def _listed(files: Mapping[str, tuple[str, ...]]) -> str:
    """Some files by subject, without their folders."""
    names = [f"{subject} {path.rpartition('/')[2]}" for subject, paths in files.items() for path in paths]
    more = f" and {len(names) - FILES_SHOWN} more" if len(names) > FILES_SHOWN else ""
    return f"{', '.join(names[:FILES_SHOWN])}{more}"


def _together(store: str, subject: str, before: tuple[int, ...], asked: tuple[int, ...]) -> tuple[int, ...]:
    """Sessions of a subject in the end; new ones only after those that readers of the store know."""
    new = sorted(set(asked) - set(before))
    if before and new and new[0] < before[-1]:
        raise StoreError(
            f"{store}: {subject} has sessions {number_ranges(before)}, and session {new[0]} would have to stand before "
            "the last of them, where readers of the store find another one; choose another store"
        )
    return (*before, *new)


def exchange(built: Path, store: Path) -> Path:
    """Exchange a finished build and a store, and return the folder of the old store, the path of the build.

    On Linux in one step, so that the store has its name at every moment. Elsewhere by two renames.
    """
    flush_tree(built)
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        renameat2 = None
    done = renameat2 is not None and not renameat2(
        _AT_FDCWD, os.fsencode(built), _AT_FDCWD, os.fsencode(store), _RENAME_EXCHANGE
    )
    if not done:  # a file system without exchange
        aside = built.with_name("before")
        store.rename(aside)
        built.rename(store)
        aside.rename(built)
    flush_folder(store.parent)
    return built
