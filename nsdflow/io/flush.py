"""Durability: files are on disk before a marker or a name claims that they exist.

A write first reaches only the page cache, which a power cut loses. The order that survives one is: start writeback of
each file when it is complete (:func:`start_writeback`, does not wait), wait for all files of a task before its
done-marker is written (:class:`WrittenFiles`), and flush a whole tree before the rename that publishes it, and its
parent folder after (:func:`publish`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = [
    "WrittenFiles",
    "flush_file",
    "flush_folder",
    "flush_tree",
    "keep_tree",
    "make_folders",
    "publish",
    "record",
    "recorded",
    "recording",
    "start_writeback",
]

#: Flag of Linux's sync_file_range: start writing dirty pages that are not yet being written.
_SYNC_FILE_RANGE_WRITE: Final = 2


class WrittenFiles:
    """The files that a task wrote on mounted file systems, to be flushed together."""

    def __init__(self) -> None:
        self._files: dict[Path, None] = {}
        self._folders: dict[Path, None] = {}

    def add(self, file: Path, folders: Iterable[Path] = ()) -> None:
        """Remember a complete file, and the folders above its own in which folders were made for it."""
        self._files[file] = None
        self._folders.update(dict.fromkeys([file.parent, *folders]))

    def flush(self) -> dict[str, int]:
        """Wait until all files and the folders that name them are on disk.

        Returns
        -------
        dict of str to int
            Bytes per absolute path, without files that were removed meanwhile.
        """
        sizes: dict[str, int] = {}
        for file in self._files:
            if file.is_file():
                flush_file(file)
                sizes[str(file)] = file.stat().st_size
        for folder in self._folders:
            if folder.is_dir():
                flush_folder(folder)
        return sizes


_RECORD: ContextVar[WrittenFiles | None] = ContextVar("written", default=None)


@contextmanager
def recording() -> Iterator[WrittenFiles]:
    """Collect the files written in the block, so that they are flushed together and not one by one."""
    written = WrittenFiles()
    token = _RECORD.set(written)
    try:
        yield written
    finally:
        _RECORD.reset(token)


def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function for other threads, so that its files go into the record of this thread."""
    written = _RECORD.get()

    def call(*arguments: Any) -> Any:
        token = _RECORD.set(written)
        try:
            return function(*arguments)
        finally:
            _RECORD.reset(token)

    return call


def record() -> WrittenFiles | None:
    """The record of the current block, if any."""
    return _RECORD.get()


@cache
def _sync_file_range() -> Callable[..., int] | None:
    """Linux's ``sync_file_range(descriptor, offset, bytes, flags)``, which Python does not offer."""
    try:
        function = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (AttributeError, OSError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


def start_writeback(descriptor: int) -> None:
    """Start writing a file's pages to disk without waiting, which speeds up a later flush."""
    if (function := _sync_file_range()) is not None:
        function(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def flush_file(file: Path) -> None:
    """Wait until the contents of a file are on disk."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk; file systems that cannot flush folders do not need it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:  # EINVAL on some network and FUSE file systems
        return
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it.

    Returns
    -------
    list of Path
        Folders that got a new name, to be flushed together with what is written below.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [one.parent for one in missing]


def flush_tree(root: Path) -> None:
    """Wait until all files and folders below ``root`` are on disk."""
    folders: list[Path] = []
    files: list[Path] = []
    for place, _, names in os.walk(root):
        folders.append(Path(place))
        files += [Path(place, name) for name in names]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        start_writeback(descriptor)
        os.close(descriptor)
    for file in files:
        flush_file(file)
    for folder in folders:
        flush_folder(folder)


def keep_tree(root: Path) -> None:
    """Flush a tree that a library wrote before the done-marker of the running task; outside tasks, at once."""
    if (written := record()) is None:
        flush_tree(root)
        return
    for place, _, names in os.walk(root):
        for name in names:
            written.add(Path(place, name), [Path(place).parent])


def publish(built: Path, target: Path) -> None:
    """Give a complete tree its name: flush it, rename it, flush its folder.

    Everything that the running task wrote before is flushed first.

    Raises
    ------
    OSError
        ``target`` exists and is not an empty folder, or cannot be written.
    """
    written = record()
    if written is not None:
        written.flush()
    flush_tree(built)
    built.rename(target)
    for folder in (target.parent, target.parent.parent):
        flush_folder(folder)
    if written is not None:
        keep_tree(target)
