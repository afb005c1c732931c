"""Checkpoints of a training: written whole or not at all, read without running anything in them."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import torch

from nsdflow.errors import RunError

__all__ = ["check_fingerprint", "load_state", "save_state"]


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings and plain containers to ``path``, by rename from a file beside it.

    ``path`` may be a URL; object stores put the whole of it or nothing, and what they raise passes as it is.

    Raises
    ------
    RunError
        The disk is full or not writable; what stood at ``path`` before still stands.
    """
    if "://" in str(path):
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        system, place = fsspec.url_to_fs(str(path), use_listings_cache=False)
        system.pipe_file(place, buffer.getvalue())
        return
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
    source = _find(path)
    if source is None:
        return None
    try:
        with zipfile.ZipFile(source) as archive:
            damaged = archive.testzip()  # torch does not look at the checksums that it writes
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)
        if isinstance(source, io.BytesIO):
            source.seek(0)
        return dict(torch.load(source, map_location="cpu", weights_only=True))
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


def _find(path: str | Path) -> Path | io.BytesIO | None:
    """What to read: the file itself, or the contents of a URL."""
    if "://" not in str(path):
        return Path(path) if Path(path).is_file() else None
    system, place = fsspec.url_to_fs(str(path), use_listings_cache=False)
    try:
        return io.BytesIO(system.cat_file(place))
    except FileNotFoundError:
        return None
