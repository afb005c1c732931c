"""Comparison of an ingestion with a published store: the same, an addition, or a conflict."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    experiments : tuple of str
        Sister experiments of the store in the end.
    """

    sessions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    complete: bool = False
    notes: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()

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
) -> tuple[Growth, dict[str, tuple[int, ...]]]:
    """Find what a published store lacks.

    Parameters
    ----------
    store : str
        Path or URL of the published store.
    settings : IngestSettings
        Of the ingestion.
    source : str
        Address of NSD.
    schema : int
        Version of the schema of new stores.
    found : mapping
        Sessions of the source by subject, as far as they are asked for.

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
    experiments = parse_experiments((*had, *settings.experiments))
    if in_the_end == before and experiments == had:
        return Growth(
            before, complete=True, notes=(f"{store} holds all of this already; nothing is to be done",)
        ), before
    if not is_local(store):
        raise StoreError(
            f"{store}: exists, and subjects, sessions and experiments can be added to a store on a file system only; "
            "choose another store"
        )
    added = {name: sorted(set(all_) - set(before.get(name, ()))) for name, all_ in in_the_end.items()}
    lines = [f"{name} sessions {number_ranges(new)}" for name, new in added.items() if new]
    lines += [f"experiment {name}" for name in experiments if name not in had]
    note = f"added to the store, which keeps what it has: {'; '.join(lines)}"
    return Growth(before, notes=(note,), experiments=experiments), in_the_end


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
    """Exchange a finished build and a store; the old store then has the path of the build.

    On Linux in one step, so that the store has its name at every moment. Elsewhere by two renames.

    Returns
    -------
    Path
        Folder of the old store.
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
