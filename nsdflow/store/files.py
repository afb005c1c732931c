"""Files of a store: written whole or not at all, read by byte range, locally or by URL."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from nsdflow.errors import StoreError

__all__ = ["TEMPORARY", "atomic_file", "is_local", "local_path", "open_ranges", "open_text", "writing"]

#: Ending of files that are being written; what is left of them belongs to processes that were killed.
TEMPORARY: Final = ".tmp"

_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}
_NO_PERMISSION: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


def is_local(url: str) -> bool:
    """Whether a path or URL is on a mounted file system."""
    return "://" not in url or url.startswith("file://")


def local_path(url: str | os.PathLike[str]) -> Path:
    """The absolute path that a path or ``file://`` URL names."""
    return Path(os.fspath(url).removeprefix("file://")).expanduser().absolute()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one line that says what to do.

    Raises
    ------
    StoreError
        The disk or the quota is full, or there is no permission to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreError(
                f"{path}: no space left ({error.strerror}); free some and run the same command again, "
                "what is done stays done"
            ) from error
        if error.errno in _NO_PERMISSION:
            raise StoreError(f"{path}: may not be written ({error.strerror}); choose another folder") from error
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is complete, and not at all if anything fails before."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}{TEMPORARY}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb", buffering=0) as file:
                yield file
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def open_ranges(url: str) -> Iterator[Callable[[int, int], bytes]]:
    """``read(start, count)`` for one file; a negative ``start`` counts from the end.

    Raises
    ------
    FileNotFoundError
        No such file.
    """
    if is_local(url):
        with local_path(url).open("rb", buffering=0) as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            yield lambda start, count: os.pread(descriptor, count, start if start >= 0 else max(0, size + start))
    else:
        system, path = fsspec.url_to_fs(url)
        yield lambda start, count: system.cat_file(path, start=start, end=start + count or None)


def open_text(url: str) -> str:
    """The text of a small file.

    Raises
    ------
    FileNotFoundError
        No such file.
    """
    system, path = fsspec.url_to_fs(url)
    if isinstance(system, LocalFileSystem):
        return local_path(url).read_text(encoding="utf-8")
    return bytes(system.cat_file(path)).decode()
