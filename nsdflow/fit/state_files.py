"""Files of tensors and numbers in torch's format. A write is atomic; a read executes no code from the file."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nsdflow.errors import RunError
from nsdflow.io.paths import is_local
from nsdflow.io.reach import writing
from nsdflow.io.read import read_bytes
from nsdflow.io.write import atomic_file

__all__ = ["load_state", "save_state"]


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings and plain containers to a path or URL, atomically and flushed to disk.

    Raises
    ------
    StoreError
        The disk is full or not writable. An earlier file at ``path`` is kept.
    """
    try:
        with atomic_file(path, flush=True) as file:
            torch.save(dict(state), file)
    except RuntimeError as error:  # torch reports some failed writes as RuntimeError
        if not isinstance(error.__context__, OSError):
            raise
        with writing(path):
            raise error.__context__ from None


def load_state(path: str | Path) -> dict[str, Any] | None:
    """Read the state at ``path`` to the CPU; return None if the file does not exist.

    Raises
    ------
    RunError
        The file is damaged.
    """
    source = _find(path)
    if source is None:
        return None
    try:
        with zipfile.ZipFile(source) as archive:
            damaged = archive.testzip()  # torch writes checksums but does not verify them
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)
        if isinstance(source, io.BytesIO):
            source.seek(0)
        return dict(torch.load(source, map_location="cpu", weights_only=True))
    except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise RunError(f"{path}: damaged checkpoint ({error}); delete it to start again") from error


def _find(path: str | Path) -> Path | io.BytesIO | None:
    """Return the local path, or the contents of a URL; None if the file does not exist."""
    if is_local(path):
        return Path(path) if Path(path).is_file() else None
    try:
        return io.BytesIO(read_bytes(str(path)))
    except FileNotFoundError:
        return None
