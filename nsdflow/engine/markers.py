"""Done-markers: one small JSON file per finished task in ``<folder>/tasks``, written last and whole.

``plan.json`` next to the folder lists the keys of all tasks by stage; ``nsdflow status`` counts the progress from it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nsdflow.errors import RunError
from nsdflow.io.folders import exists
from nsdflow.io.paths import filesystem, is_local, local_path
from nsdflow.io.reach import reaching
from nsdflow.io.read import METADATA_BYTES, read_bytes
from nsdflow.io.write import write_text

__all__ = ["count_finished", "damaged", "read", "read_markers", "relative_files", "wait_for", "write", "write_plan"]


def write(folder: str, key: str, marker: Mapping[str, Any]) -> None:
    """Write the marker of task ``key``, whole and on disk."""
    write_text(f"{folder}/tasks/{key}.json", json.dumps(marker, indent=1, sort_keys=True))


def read(folder: str, key: str) -> dict[str, Any] | None:
    """The marker of one task; None if it is missing or damaged, so that the task counts as not done."""
    data = _content(f"{folder}/tasks/{key}.json")
    return None if data is None else _marker(data)


def _content(file: str) -> bytes | None:
    """The bytes of a marker; None where it is missing, was removed meanwhile, or is a link to nothing."""
    try:
        return read_bytes(file, limit_bytes=METADATA_BYTES)
    except FileNotFoundError:
        return None


def wait_for(folder: str, key: str, before: Mapping[str, Any] | None, seconds: float = 120.0) -> dict[str, Any]:
    """Wait for the marker that a worker has just written.

    Network file systems show a file that another machine wrote up to a minute late.

    Parameters
    ----------
    folder : str
        Path or URL of the folder with the markers.
    before : mapping or None
        The marker that the new one replaces.
    seconds : float
        Time limit.

    Raises
    ------
    RunError
        The marker does not appear, because driver and workers do not share the folder, or the folder is gone.
    """
    ends = time.monotonic() + seconds
    while (marker := read(folder, key)) is None or marker == before:
        if not exists(f"{folder}/tasks"):
            raise RunError(f"{folder} is gone: another command that worked on it has finished, or removed it")
        if time.monotonic() > ends:
            raise RunError(
                f"{folder}: a worker finished {key}, but its marker is not visible here; "
                "use a folder on a file system that all nodes share, or an object store"
            )
        time.sleep(0.5)
    return marker


def read_markers(folder: str) -> dict[str, dict[str, Any]]:
    """All markers of a folder by task key, without damaged ones; empty if the folder does not exist."""
    with reaching(folder):
        fs, root = filesystem(f"{folder}/tasks")
        try:
            files = [path for path in fs.ls(root, detail=False, refresh=True) if path.endswith(".json")]
        except FileNotFoundError:
            return {}
        if is_local(folder):  # a pipe would never end
            contents = {path: data for path in files if (data := _content(path)) is not None}
        else:
            contents = fs.cat(files) if files else {}
    markers = {path.rsplit("/", 1)[-1].removesuffix(".json"): _marker(data) for path, data in contents.items()}
    return {key: marker for key, marker in markers.items() if marker is not None}


def _marker(data: bytes) -> dict[str, Any] | None:
    try:
        marker = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return marker if isinstance(marker, dict) and isinstance(marker.get("files", {}), dict) else None


def relative_files(folder: str, files: Mapping[str, int]) -> dict[str, int]:
    """Sizes of files by their path relative to ``folder``, so that the folder may be moved; none for object stores."""
    if not is_local(folder):
        return {}
    root = local_path(folder)
    return {os.path.relpath(file, root): size for file, size in files.items()}


def damaged(folder: str, done: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Tasks whose files were removed, truncated or lost in a power cut.

    Parameters
    ----------
    folder : str
        Path or URL of the folder with the markers.
    done : mapping
        Markers of finished tasks in the order of the plan. A file that several tasks wrote belongs to the last one.
    """
    if not is_local(folder):
        return set()
    root = local_path(folder)
    owner = {file: (key, size) for key, marker in done.items() for file, size in marker.get("files", {}).items()}
    return {key for file, (key, size) in owner.items() if not _is_whole(root / file, size)}


def _is_whole(file: Path, size: int) -> bool:
    try:
        found = file.stat().st_size
    except OSError:
        return False
    # metadata are rewritten when a hierarchy is consolidated
    return found == size or (file.name == "zarr.json" and found > 0)


def write_plan(folder: str, stages: Mapping[str, Sequence[str]]) -> None:
    """Write the keys of all tasks by stage."""
    write_text(f"{folder}/plan.json", json.dumps(stages))


def count_finished(folder: str) -> dict[str, tuple[int, int]]:
    """Number of finished and of planned tasks by stage; empty if nothing was executed."""
    try:
        stages = json.loads(read_bytes(f"{folder}/plan.json"))
        if not isinstance(stages, dict) or not all(isinstance(keys, list) for keys in stages.values()):
            raise ValueError("not the keys of tasks by stage")
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        raise RunError(f"{folder}/plan.json is damaged; run the same command, which writes it again") from None
    done = read_markers(folder)
    return {stage: (sum(key in done for key in keys), len(keys)) for stage, keys in stages.items()}
