"""Small files, written so that a reader sees the whole of them or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

__all__ = ["write_text_atomically"]


def write_text_atomically(url: str, text: str) -> None:
    """Write ``text`` to a path or URL.

    Locally through a temporary file in the same folder, flushed to disk and renamed; object stores put a whole
    object or none.
    """
    fs, path = fsspec.url_to_fs(url)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(path, text.encode())
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
