"""Where NSD is: a folder, a bucket, anything fsspec can address.

A :class:`Source` is two plain values, so it travels to a worker as it is; every file system and every file is
opened inside the function that reads it. What is listed but may not be read (NSD's held-out sessions answer 403)
counts as not there.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import BadGzipFile
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import h5py
from isal import igzip, igzip_lib

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.io.files import filesystem, is_local, require_file_system, store_errors

__all__ = ["GZIPPED", "Source", "open_source"]

#: Endings of gzipped files.
GZIPPED: Final = (".gz", ".mgz")

#: One request fetches this much of a file that is read from front to back ...
STREAM_BLOCK: Final = 16 << 20
#: ... and this much of a file that is read here and there.
RANDOM_BLOCK: Final = 256 << 10

_S3_CREDENTIALS: Final = frozenset({"anon", "key", "secret", "token", "profile", "session"})
# Listings are not kept: a listed key may still answer 403, and only a fresh request tells.
_S3_DEFAULTS: Final[Mapping[str, Any]] = {
    "use_listings_cache": False,
    "default_fill_cache": False,
    "default_block_size": STREAM_BLOCK,
    "config_kwargs": {"retries": {"max_attempts": 4, "mode": "standard"}},
}

_NO_READ: Final = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
# the cast: isal's stub declares the class as an instance
_CORRUPT: Final = (BadGzipFile, zlib.error, cast(type[Exception], igzip_lib.IsalError))


@dataclass(frozen=True)
class Source:
    """The root of a copy of NSD: the folder that holds ``nsddata`` and ``nsddata_betas``.

    Parameters
    ----------
    url : str
        An absolute folder or an fsspec URL. Make one with :func:`open_source`, which fills in what is usual.
    storage_options : mapping
        Passed to the fsspec file system (for S3: ``anon``, ``endpoint_url``, ...).
    """

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def join(self, path: str) -> str:
        """The full address of a path, for messages and provenance."""
        return f"{self.url.rstrip('/')}/{path}".rstrip("/")

    def exists(self, path: str) -> bool:
        """Whether the file (or folder) is there **and** may be read."""
        system, root = self._system()
        full = f"{root}/{path}"
        with self.reading(path):
            try:
                system.info(full)
            except _NO_READ:
                return False
        return not _is_local(system) or os.access(full, os.R_OK)

    def size(self, path: str) -> int:
        """Bytes of a file."""
        system, root = self._system()
        with self.reading(path):
            return int(system.info(f"{root}/{path}")["size"])

    def listdir(self, path: str = "") -> tuple[str, ...]:
        """Sorted names in a folder; nothing where there is no such folder."""
        return tuple(sorted(self.sizes(path)))

    def sizes(self, path: str = "") -> dict[str, int]:
        """Names in a folder and their bytes, in one listing."""
        return {name: int(entry["size"] or 0) for name, entry in self._entries(path).items()}

    def stamps(self, path: str = "") -> dict[str, str]:
        """Names in a folder and what changes when the file does: its bytes with its ETag or time of modification."""
        return {
            name: f"{entry['size']} {entry.get('ETag', entry.get('mtime', ''))}"
            for name, entry in self._entries(path).items()
        }

    def head(self, path: str, count: int) -> bytes:
        """The first ``count`` bytes, in one request."""
        system, root = self._system()
        with self.reading(path):
            return cast(bytes, system.cat_file(f"{root}/{path}", start=0, end=count))

    @contextmanager
    def open(self, path: str, *, block: int = STREAM_BLOCK) -> Iterator[BinaryIO]:
        """Open a file for reading bytes; what goes wrong while it is open names the file.

        Raises
        ------
        MissingDataError
            No such file, or it is not public.
        SourceError
            The file is truncated or corrupt.
        """
        system, root = self._system()
        full = f"{root}/{path}"
        with self.reading(path):
            options = {} if _is_local(system) else {"block_size": block}
            with system.open(full, "rb", **options) as file:
                yield cast(BinaryIO, file)

    @contextmanager
    def open_stream(self, path: str) -> Iterator[BinaryIO]:
        """Open a file to read it from front to back, through igzip when its name says that it is gzipped.

        Reading a gzipped file to its end checks its length and its CRC. No thread decompresses ahead: a task is to
        take one core, so that as many tasks as there are cores run at full speed.
        """
        with self.open(path) as file:
            if path.endswith(GZIPPED):
                with igzip.open(file, "rb") as stream:
                    yield cast(BinaryIO, stream)
            else:
                yield file

    @contextmanager
    def open_hdf5(self, path: str, dataset: str) -> Iterator[h5py.Dataset]:
        """Open one dataset of an HDF5 file (without the file locks that shared file systems often lack)."""
        system, root = self._system()
        if _is_local(system):
            with self.reading(path), h5py.File(f"{root}/{path}", "r", locking=False) as file:
                yield self._dataset(file, path, dataset)
        else:
            with self.open(path, block=RANDOM_BLOCK) as raw, h5py.File(raw, "r") as file:
                yield self._dataset(file, path, dataset)

    def _dataset(self, file: h5py.File, path: str, name: str) -> h5py.Dataset:
        if not isinstance(file.get(name), h5py.Dataset):
            raise SourceError(
                f"{self.join(path)}: no dataset {name!r}, only {', '.join(file) or 'nothing'}; fetch it again"
            )
        return file[name]

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Turn what can go wrong with a file into one line that names it."""
        try:
            yield
        except (SourceError, MissingDataError):
            raise
        except PermissionError as error:
            raise MissingDataError(f"{self.join(path)}: not public, or no permission to read it") from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingDataError(
                f"{self.join(path)}: no such file; `nsdflow check {self.url}` lists what there is"
            ) from error
        except EOFError as error:
            raise SourceError(f"{self.join(path)}: truncated; fetch it again") from error
        except _CORRUPT as error:
            raise SourceError(f"{self.join(path)}: corrupt ({error}); fetch it again") from error
        except Exception as error:
            if not isinstance(error, (OSError, *store_errors())):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            if is_local(self.url):
                raise SourceError(f"{self.join(path)}: cannot be read ({reason}); fetch it again") from error
            raise SourceError(
                f"{self.join(path)}: cannot be reached ({reason}); check the network, or copy NSD to a folder first"
            ) from error

    def _entries(self, path: str) -> dict[str, Mapping[str, Any]]:
        """What fsspec says of each name in a folder; nothing where there is no such folder."""
        system, root = self._system()
        with self.reading(path):
            try:
                entries = system.ls(f"{root}/{path}".rstrip("/"), detail=True)
            except _NO_READ:
                return {}
        return {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}

    def _system(self) -> tuple[Any, str]:
        """The file system and the root in its own terms (fsspec keeps one instance a process and thread)."""
        system, root = filesystem(self.url, **self.storage_options)
        return system, root.rstrip("/")


def open_source(url: str | Path, storage_options: Mapping[str, Any] | None = None) -> Source:
    """The source at a folder or URL; ``s3://`` is read anonymously unless the options name an identity.

    Opens nothing: the first read does.

    Raises
    ------
    ConfigError
        No file system for this kind of URL is installed.

    Examples
    --------
    >>> open_source("s3://natural-scenes-dataset").join("nsddata")
    's3://natural-scenes-dataset/nsddata'
    """
    text = str(url)
    options = dict(storage_options or {})
    protocol = text.partition("://")[0] if "://" in text else "file"
    require_file_system(text)
    if protocol == "file":
        text = str(Path(text.removeprefix("file://")).expanduser().absolute())
    if protocol == "s3":
        options = {"anon": not _S3_CREDENTIALS & options.keys(), **_S3_DEFAULTS, **options}
    return Source(text, options)


def _is_local(system: Any) -> bool:
    protocol = system.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)
