"""Done-markers: one small JSON file a finished task, written last and atomically, in ``<folder>/tasks``.

Beside them stands ``plan.json``, the keys of all tasks by stage, so that anyone can say how far an execution is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec

from nsdflow.config.files import write_text_atomically

__all__ = ["clear", "progress", "read_all", "write", "write_plan"]


def write(folder: str, key: str, marker: Mapping[str, Any]) -> None:
    """Write the marker of task ``key``; it is complete or absent, never half there."""
    write_text_atomically(f"{folder}/tasks/{key}.json", json.dumps(marker, indent=1, sort_keys=True))


def read_all(folder: str) -> dict[str, dict[str, Any]]:
    """All markers of a folder by task key; none if the folder does not exist."""
    fs, root = fsspec.url_to_fs(f"{folder}/tasks")
    if not fs.isdir(root):
        return {}
    files = [path for path in fs.ls(root, detail=False, refresh=True) if path.endswith(".json")]
    return {path.rsplit("/", 1)[-1].removesuffix(".json"): json.loads(fs.cat_file(path)) for path in files}


def write_plan(folder: str, stages: Mapping[str, Sequence[str]]) -> None:
    """Write the keys of all tasks by stage."""
    write_text_atomically(f"{folder}/plan.json", json.dumps(stages))


def progress(folder: str) -> dict[str, tuple[int, int]]:
    """Tasks done and planned by stage; empty where nothing was ever executed."""
    fs, path = fsspec.url_to_fs(f"{folder}/plan.json")
    if not fs.exists(path):
        return {}
    done = read_all(folder)
    stages = json.loads(fs.cat_file(path))
    return {stage: (sum(key in done for key in keys), len(keys)) for stage, keys in stages.items()}


def clear(folder: str) -> None:
    """Forget what was done."""
    fs, root = fsspec.url_to_fs(f"{folder}/tasks")
    if fs.isdir(root):
        fs.rm(root, recursive=True)
