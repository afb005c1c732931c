"""Checkpoints of a training: written whole or not at all, read without running anything in them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nsdflow.errors import RunError

__all__ = ["check_fingerprint", "load_state", "save_state"]


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings and plain containers to ``path``, by rename from a file beside it.

    Raises
    ------
    RunError
        The disk is full or not writable; what stood at ``path`` before still stands.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(part, state)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports some failed writes as RuntimeError
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise RunError(
            f"{path}: checkpoint cannot be written ({reason}); free space or choose another folder"
        ) from error


def _write(file: Path, state: Mapping[str, Any]) -> None:
    """To the disk itself, or not at all."""
    with file.open("wb") as stream:
        try:
            torch.save(dict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        except BaseException:
            file.unlink(missing_ok=True)
            raise


def load_state(path: str | Path) -> dict[str, Any] | None:
    """The state at ``path``, on the CPU; None if there is no file.

    Raises
    ------
    RunError
        The file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not look at the checksums that it writes
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise RunError(f"{path}: damaged checkpoint ({error}); delete it to start again") from error


def check_fingerprint(path: str | Path, state: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> None:
    """Refuse a state of another training: ``fingerprint`` must equal the one under its key ``"fingerprint"``.

    Raises
    ------
    RunError
        Saying what differs.
    """
    found = state.get("fingerprint", {})
    differing = sorted(key for key in {*fingerprint, *found} if fingerprint.get(key) != found.get(key))
    if differing:
        changes = ", ".join(f"{key} {found.get(key)!r} -> {fingerprint.get(key)!r}" for key in differing)
        raise RunError(f"{path}: checkpoint of another training ({changes}); delete it or use another folder")
