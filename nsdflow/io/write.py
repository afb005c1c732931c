"""Writing files at a path or URL: whole or not at all, and on disk.

On a mounted file system a file is written under a temporary name in its folder, flushed and renamed; object stores put
whole objects. Within :func:`nsdflow.io.flush.recording`, which the engine opens around every task, files are flushed
together before the task's done-marker; elsewhere each file is flushed before its rename.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast
from uuid import uuid4

from nsdflow.io.flush import flush_folder, make_folders, record, start_writeback
from nsdflow.io.paths import filesystem, is_local, local_path
from nsdflow.io.reach import ELSEWHERE, writing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["TEMPORARY", "aside", "atomic_file", "create_text", "put_files", "write_text"]

#: Ending of files and groups that are being written. Leftovers with this ending belong to killed processes.
TEMPORARY: Final = ".tmp"
#: Names of the errors by which object stores refuse to create an object that exists or is being created.
_TAKEN: Final = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


@contextmanager
def atomic_file(
    url: str | os.PathLike[str], *, flush: bool | None = None, elsewhere: str = ELSEWHERE
) -> Iterator[BinaryIO]:
    """Write a file that gets its name when it is complete, and does not appear if anything fails before.

    Parameters
    ----------
    url : str or path
        Path or URL.
    flush : bool, optional
        Wait until the file is on disk before it gets its name. By default, unless a record of the running task does so
        for it.
    elsewhere : str
        What to do if nothing can be written there; ends the message.

    Yields
    ------
    file : binary file
        Its ``write`` writes all data or raises.

    Raises
    ------
    StoreError
        As :func:`nsdflow.io.reach.writing`.
    """
    place = os.fspath(url)
    if not is_local(place):
        with writing(place, elsewhere):
            buffer = io.BytesIO()
            yield buffer
            system, path = filesystem(place)
            system.pipe_file(path, buffer.getvalue())
        return
    target = local_path(place)
    with aside(target, flush=flush, elsewhere=elsewhere) as temporary, temporary.open("wb", buffering=0) as file:
        yield cast("BinaryIO", _Whole(file))


@contextmanager
def aside(target: Path, *, ending: str = "", flush: bool | None = None, elsewhere: str = ELSEWHERE) -> Iterator[Path]:
    """Path of a temporary file that is renamed to ``target`` when the block ends without an error.

    For libraries that write to a path; see :func:`atomic_file`.

    Parameters
    ----------
    target : path
        Absolute.
    ending : str
        Ending of the temporary name, for libraries that choose the format by it.
    flush, elsewhere : optional
        As for :func:`atomic_file`.
    """
    written = record()
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}{TEMPORARY}{ending}")
    with writing(target, elsewhere):
        folders = make_folders(target.parent)
        try:
            yield temporary
            later = written is not None and not flush
            _settle(temporary, wait=not later)
            temporary.replace(target)
            if later and written is not None:
                written.add(target, folders)
            else:
                for folder in (target.parent, *folders):
                    flush_folder(folder)
        finally:
            temporary.unlink(missing_ok=True)


def _settle(file: Path, *, wait: bool) -> None:
    """Wait until a file is on disk, or only start writing it there."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if wait:
            os.fsync(descriptor)
        else:
            start_writeback(descriptor)
    finally:
        os.close(descriptor)


class _Whole(io.RawIOBase):
    """An unbuffered file whose ``write`` writes everything or raises.

    One ``write`` of the operating system takes at most 2,147,479,552 bytes, and fewer on a disk that is filling up; it
    returns how many it took.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of ``data``.

        Raises
        ------
        OSError
            The disk or the quota is full.
        """
        rest = memoryview(data).cast("B")
        total = rest.nbytes
        while rest.nbytes:
            written = self._file.write(rest)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]
        return total


def write_text(url: str | os.PathLike[str], text: str, *, elsewhere: str = ELSEWHERE) -> None:
    """Write a text file whole, and on disk when this returns; ``elsewhere`` as for :func:`atomic_file`.

    Raises
    ------
    StoreError
        As :func:`nsdflow.io.reach.writing`.
    """
    with atomic_file(url, flush=True, elsewhere=elsewhere) as file:
        file.write(text.encode())


def create_text(url: str, text: str) -> bool:
    """Create a file exclusively; False if it exists. Of several racing writers exactly one succeeds.

    Local and network file systems create exclusively (``O_EXCL``), object stores put on the condition that the object
    does not exist. An object store without conditions overwrites.

    Raises
    ------
    StoreError
        As :func:`nsdflow.io.reach.writing`.
    """
    with writing(url):
        if is_local(url):
            return _create_local(local_path(url), text)
        system, path = filesystem(url)
        try:
            system.pipe_file(path, text.encode(), mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or _code(error) in _TAKEN:
                return False
            if error.errno != errno.ENOSYS:
                raise
            system.pipe_file(path, text.encode())
        return True


def _create_local(target: Path, text: str) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = target.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    with file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    return True


def _code(error: BaseException) -> str:
    """The name that an object store gives its error."""
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def put_files(url: str, files: Mapping[str, bytes], *, last: str) -> None:
    """Put files, by their path below ``url``, into an object store: many concurrently, then the one named ``last``."""
    others = dict(files)
    final = others.pop(last)
    with writing(url):
        system, path = filesystem(url)
        system.pipe({f"{path}/{name}": data for name, data in others.items()})
        system.pipe_file(f"{path}/{last}", final)
