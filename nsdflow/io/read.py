"""Reading files at a path or URL: whole, by byte range, or as JSON, with bounds on what is read."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from typing import Any, Final

from nsdflow.errors import StoreError
from nsdflow.io.paths import filesystem, is_local, local_name
from nsdflow.io.reach import reaching

__all__ = ["METADATA_BYTES", "open_ranges", "parse_metadata", "read_all", "read_bytes", "read_json", "read_metadata"]

#: Largest file that is read as metadata; the largest that nsdflow writes (consolidated metadata) has about 1 MiB.
METADATA_BYTES: Final = 64 << 20


def read_bytes(url: str, *, limit_bytes: int | None = None) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    limit_bytes : int, optional
        Refuse larger files before reading them.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StoreError
        The file is larger than allowed, or cannot be read: a folder, a pipe or a device (which may never end), a link
        to itself, no permission, a fault of the disk.
    """
    if not is_local(url):
        with reaching(url):
            system, path = filesystem(url)
            if limit_bytes is None:
                return bytes(system.cat_file(path))
            if (size := system.size(path) or 0) > limit_bytes:
                raise _too_large(url, size, limit_bytes)
            return bytes(system.cat_file(path, **_one_request(system)))
    with _reading(url), _open_file(url) as file:
        size = os.fstat(file.fileno()).st_size
        if limit_bytes is not None and size > limit_bytes:
            raise _too_large(url, size, limit_bytes)
        return file.readall()


def _one_request(system: Any) -> dict[str, int]:
    """Options for reading a small file in one request; s3fs asks for the size before, to fetch large files in parts."""
    return {"max_concurrency": 1} if "s3" in system.protocol else {}


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """Turn errors of this machine's file systems into one line; a file in place of a folder counts as no such file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), error.filename) from None
    except OSError as error:
        raise StoreError(
            f"{url}: cannot be read ({error.strerror or error}); check its permissions and the disk"
        ) from None


def _open_file(url: str) -> FileIO:
    """Open a regular file of this machine; anything else could block or never end."""
    # a pipe without a writer would block in open
    descriptor = os.open(local_name(url), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise StoreError(f"{url}: {what} where a file is expected; remove it")
    return FileIO(descriptor, "rb")


def _too_large(url: str, size: int, limit: int) -> StoreError:
    return StoreError(f"{url}: {size} bytes where at most {limit} are expected; the file is damaged or not of nsdflow")


def read_json(url: str, advice: str) -> dict[str, Any]:
    """Read a JSON object from a file of bounded size.

    Parameters
    ----------
    advice : str
        What to do about a damaged file; ends the message.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StoreError
        The file is damaged.
    """
    return _parse(read_bytes(url, limit_bytes=METADATA_BYTES), url, advice)


def _parse(data: bytes, url: str, advice: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{url}: damaged ({error}); {advice}") from None
    return value


def read_metadata(url: str) -> dict[str, Any]:
    """Read a ``zarr.json``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StoreError
        The file is damaged.
    """
    return read_json(url, "ingest again")


def parse_metadata(data: bytes, url: str) -> dict[str, Any]:
    """Parse the bytes of a ``zarr.json`` that was read from ``url``.

    Raises
    ------
    StoreError
        The file is damaged.
    """
    return _parse(data, url, "ingest again")


def read_all(urls: Sequence[str]) -> list[bytes]:
    """Read small files of one file system, from an object store concurrently.

    Raises
    ------
    FileNotFoundError
        One of the files does not exist.
    """
    if not urls or is_local(urls[0]):
        return [read_bytes(url) for url in urls]
    with reaching(urls[0]):
        system, _ = filesystem(urls[0])
        paths = [filesystem(url)[1] for url in urls]
        options = _one_request(system)
        found = system.cat(paths, **options) if len(paths) > 1 else {paths[0]: system.cat_file(paths[0], **options)}
    return [bytes(found[path]) for path in paths]


@contextmanager
def open_ranges(url: str) -> Iterator[tuple[Callable[[int, int], bytes], int | None]]:
    """Open one file for reading byte ranges.

    Yields
    ------
    read : callable
        ``read(start, count)``; a negative ``start`` counts from the end.
    size : int or None
        Bytes of the file; not known for an object in a bucket.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StoreError
        As :func:`read_bytes`.
    """
    if is_local(url):
        with ExitStack() as stack:
            with _reading(url):
                descriptor = stack.enter_context(_open_file(url)).fileno()
                size = os.fstat(descriptor).st_size

            def read_range(start: int, count: int) -> bytes:
                with _reading(url):
                    return os.pread(descriptor, count, start if start >= 0 else max(0, size + start))

            yield read_range, size
    else:
        system, path = filesystem(url)

        def read(start: int, count: int) -> bytes:
            with reaching(url):
                return bytes(system.cat_file(path, start=start, end=start + count or None))

        yield read, None
