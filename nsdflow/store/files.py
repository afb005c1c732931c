"""Files of a store: written whole or not at all, read by byte range, locally or by URL."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

import fsspec

from nsdflow.errors import StoreError

__all__ = [
    "TEMPORARY",
    "atomic_file",
    "exists",
    "is_local",
    "list_files",
    "local_path",
    "open_ranges",
    "read_bytes",
    "remove",
    "share_files",
    "sweep",
    "writing",
]

#: Ending of files and groups that are being written; what is left of them belongs to processes that were killed.
TEMPORARY: Final = ".tmp"

_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}
_NO_PERMISSION: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_PLACE: Final = {errno.ENOENT, errno.ENOTDIR, errno.EEXIST}
_NO_LINK: Final = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP}
#: Bytes of a file that is copied in memory at once.
COPY_BYTES: Final = 4 << 20


def is_local(url: str) -> bool:
    """Whether a path or URL is on a mounted file system."""
    return "://" not in url or url.startswith("file://")


def local_path(url: str | os.PathLike[str]) -> Path:
    """The absolute path that a path or ``file://`` URL names."""
    return Path(os.fspath(url).removeprefix("file://")).expanduser().absolute()


@contextmanager
def writing(url: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the file system refuses into one line that says what to do.

    Raises
    ------
    StoreError
        The disk or the quota is full, or there is no permission to write, or something is in the way.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreError(
                f"{url}: no space left ({error.strerror}); free some and run the same command again, "
                "what is done stays done"
            ) from error
        if error.errno in _NO_PERMISSION or isinstance(error, PermissionError):
            raise StoreError(f"{url}: may not be written ({error.strerror or error}); choose another place") from error
        if error.errno in _NO_PLACE:
            raise StoreError(f"{url}: cannot be made ({error.strerror}); choose another place") from error
        raise


@contextmanager
def atomic_file(url: str) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is complete, and not at all if anything fails before.

    On a mounted file system it is written aside and renamed; an object store puts whole objects anyway.
    """
    with writing(url):
        if not is_local(url):
            buffer = io.BytesIO()
            yield buffer
            system, path = fsspec.url_to_fs(url)
            system.pipe_file(path, buffer.getvalue())
            return
        target = local_path(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}{TEMPORARY}")
        try:
            with temporary.open("wb", buffering=0) as file:
                yield file
            temporary.replace(target)
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


def read_bytes(url: str) -> bytes:
    """A small file.

    Raises
    ------
    FileNotFoundError
        No such file.
    """
    if is_local(url):
        return local_path(url).read_bytes()
    system, path = fsspec.url_to_fs(url)
    return bytes(system.cat_file(path))


def exists(url: str) -> bool:
    """Whether there is a file or a folder."""
    system, path = fsspec.url_to_fs(url)
    return bool(system.exists(path))


def remove(url: str) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    system, path = fsspec.url_to_fs(url)
    with writing(url):
        if system.exists(path):
            system.rm(path, recursive=True)


def list_files(url: str) -> list[str]:
    """Paths of all files below a folder, relative to it."""
    system, path = fsspec.url_to_fs(url)
    system.invalidate_cache()
    return [name.removeprefix(path).lstrip("/") for name in system.find(path)] if system.exists(path) else []


def share_files(source: str, target: str | os.PathLike[str]) -> int:
    """Make the files of one folder appear in another, for files that nobody ever changes; how many they are.

    Hard links where both folders are on one file system, so that no byte is copied and each lives as long as either
    folder does; copies otherwise. ``target`` is on a mounted file system. What is there already is kept.
    """
    names = list_files(source)
    for name in names:
        place = local_path(target) / name
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists() or (is_local(source) and _linked(local_path(source) / name, place)):
                continue
            system, path = fsspec.url_to_fs(f"{source}/{name}")
            with system.open(path, "rb") as original, atomic_file(str(place)) as copy:
                shutil.copyfileobj(original, copy, COPY_BYTES)
    return len(names)


def _linked(original: Path, place: Path) -> bool:
    """Whether a file could be linked: not to another file system, and not on every kind of one."""
    try:
        place.hardlink_to(original)
    except FileExistsError:  # another attempt at the same task was faster
        return True
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def sweep(url: str) -> int:
    """Remove what killed processes left of files and groups they were writing; how many there were."""
    parts = (name.split("/") for name in list_files(url))
    names = ["/".join(part[: n + 1]) for part in parts for n in range(len(part)) if part[n].endswith(TEMPORARY)]
    leftovers = set(names)
    for name in leftovers:
        with suppress(OSError):  # another attempt at a finished task may still be writing; it cleans up by itself
            remove(f"{url}/{name}")
    return len(leftovers)
