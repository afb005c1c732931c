"""Files of a store: written whole or not at all, read by byte range, locally or by URL."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast
from uuid import uuid4

from nsdflow.errors import StoreError
from nsdflow.io.files import filesystem, is_local, reaching, writing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "TEMPORARY",
    "atomic_file",
    "exists",
    "is_local",
    "list_files",
    "local_path",
    "open_ranges",
    "parse_metadata",
    "put_files",
    "read_all",
    "read_bytes",
    "read_metadata",
    "remove",
    "share_files",
    "sweep",
    "writing",
]

#: Ending of files and groups that are being written; what is left of them belongs to processes that were killed.
TEMPORARY: Final = ".tmp"

#: Why a file cannot be linked: it lies on another file system, or on one that has no links.
_NO_LINK: Final = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP}
#: Bytes of a file that is copied in memory at once.
COPY_BYTES: Final = 4 << 20


def local_path(url: str | os.PathLike[str]) -> Path:
    """The absolute path that a path or ``file://`` URL names."""
    return Path(os.fspath(url).removeprefix("file://")).expanduser().absolute()


@contextmanager
def atomic_file(url: str) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is complete, and not at all if anything fails before.

    On a mounted file system it is written aside and renamed; an object store puts whole objects anyway.
    """
    with writing(url):
        if not is_local(url):
            buffer = io.BytesIO()
            yield buffer
            system, path = filesystem(url)
            system.pipe_file(path, buffer.getvalue())
            return
        target = local_path(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}{TEMPORARY}")
        try:
            with temporary.open("wb", buffering=0) as file:
                yield cast("BinaryIO", _Whole(file))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


class _Whole(io.RawIOBase):
    """An unbuffered file whose ``write`` writes everything or raises.

    One ``write`` of the operating system takes at most 2,147,479,552 bytes, and fewer on a disk that is filling up;
    it says how many it took.
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


def put_files(url: str, files: Mapping[str, bytes], *, last: str) -> None:
    """Put files, by their path below ``url``, into an object store: many at once, and the one called ``last`` last."""
    others = dict(files)
    final = others.pop(last)
    with writing(url):
        system, path = filesystem(url)
        system.pipe({f"{path}/{name}": data for name, data in others.items()})
        system.pipe_file(f"{path}/{last}", final)


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
        system, path = filesystem(url)

        def read(start: int, count: int) -> bytes:
            with reaching(url):
                return bytes(system.cat_file(path, start=start, end=start + count or None))

        yield read


def read_bytes(url: str) -> bytes:
    """A small file.

    Raises
    ------
    FileNotFoundError
        No such file.
    """
    if is_local(url):
        return local_path(url).read_bytes()
    with reaching(url):
        system, path = filesystem(url)
        return bytes(system.cat_file(path))


def read_metadata(url: str) -> dict[str, Any]:
    """A ``zarr.json``.

    Raises
    ------
    StoreError
        It is damaged.
    """
    return parse_metadata(read_bytes(url), url)


def parse_metadata(data: bytes, url: str) -> dict[str, Any]:
    """As :func:`read_metadata`, of what was read from ``url``."""
    try:
        metadata = json.loads(data)
        if not isinstance(metadata, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise StoreError(f"{url}: damaged ({error}); ingest again") from error
    return metadata


def read_all(urls: Sequence[str]) -> list[bytes]:
    """Small files of the same file system, from an object store at the same time.

    Raises
    ------
    FileNotFoundError
        One of them is not there.
    """
    if not urls or is_local(urls[0]):
        return [read_bytes(url) for url in urls]
    with reaching(urls[0]):
        system, _ = filesystem(urls[0])
        paths = [filesystem(url)[1] for url in urls]
        found = system.cat(paths) if len(paths) > 1 else {paths[0]: system.cat_file(paths[0])}
    return [bytes(found[path]) for path in paths]


def exists(url: str) -> bool:
    """Whether there is a file or a folder."""
    with reaching(url):
        system, path = filesystem(url)
        return bool(system.exists(path))


def remove(url: str) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    with writing(url):
        system, path = filesystem(url)
        for last in (False, False, True):
            try:
                if system.exists(path):
                    system.rm(path, recursive=True)
                return
            except OSError as error:  # somebody wrote into it meanwhile
                if last or error.errno != errno.ENOTEMPTY:
                    raise


def list_files(url: str) -> list[str]:
    """Paths of all files below a folder, relative to it."""
    with reaching(url):
        system, path = filesystem(url)
        system.invalidate_cache()
        return [name.removeprefix(path).lstrip("/") for name in system.find(path)] if system.exists(path) else []


def share_files(source: str, target: str) -> int:
    """Make the files of one folder appear in another, for files that nobody ever changes; how many they are.

    Hard links where both folders are on one file system, so that no byte is copied and each lives as long as either
    folder does; copies otherwise. What is there already is kept.
    """
    names = list_files(source)
    linkable = is_local(source) and is_local(target)
    for name in names:
        original, place = f"{source}/{name}", f"{target}/{name}"
        if exists(place) or (linkable and _linked(local_path(original), local_path(place))):
            continue
        system, path = filesystem(original)
        with reaching(source), system.open(path, "rb") as file, atomic_file(place) as copy:
            shutil.copyfileobj(file, copy, COPY_BYTES)
    return len(names)


def _linked(original: Path, place: Path) -> bool:
    """Whether a file could be linked: not to another file system, and not on every kind of one."""
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
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
