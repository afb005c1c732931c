"""Source of NSD: a folder, a bucket, or any URL that fsspec can open.

A :class:`Source` is two plain values, so it travels to a worker as it is; every file system and every file is
opened inside the function that reads it. A listed file that may not be read (NSD's held-out sessions answer 403, an
annexed copy is a link to nothing) counts as absent; :meth:`Source.trouble` says why.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import BadGzipFile
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import h5py
from isal import igzip, igzip_lib

from nsdflow.errors import MissingDataError, NsdflowError, SourceError
from nsdflow.io.paths import filesystem, is_local, normalize, public
from nsdflow.io.reach import store_errors

__all__ = ["GZIPPED", "Source", "is_gzipped", "open_source"]

#: Endings of gzipped files.
GZIPPED: Final = (".gz", ".mgz")
#: The first bytes of a gzipped file.
_GZIP_MAGIC: Final = b"\x1f\x8b"

#: Bytes that one request fetches of a file that is read from front to back ...
STREAM_BLOCK_BYTES: Final = 16 << 20
#: ... and of a file that is read in places.
RANDOM_BLOCK_BYTES: Final = 256 << 10
#: Bytes of the largest table or design file that is read whole; NSD's largest has 6 MB.
WHOLE_FILE_BYTES: Final = 256 << 20

#: Names under which copies are published: the same content, gzipped or not.
_TWINS: Final = ((".nii.gz", ".nii"), (".mgz", ".mgh"), (".mgh", ".mgz"))
#: First bytes of files that only point to the content: git-annex (unlocked) and Git LFS.
_POINTERS: Final = {b"/annex/objects/": "git-annex", b"version https://git-lfs": "Git LFS"}
#: Lock settings under which an HDF5 file may be open elsewhere in this process. No locks first: shared file
#: systems often lack them.
_LOCKINGS: Final = (False, True, "best-effort", None)

_S3_CREDENTIALS: Final = frozenset({"anon", "key", "secret", "token", "profile", "session"})
# listings are not cached: a listed key may still answer 403, and only a new request shows it
_S3_DEFAULTS: Final[Mapping[str, Any]] = {
    "use_listings_cache": False,
    "default_fill_cache": False,
    "default_block_size": STREAM_BLOCK_BYTES,
    "config_kwargs": {"retries": {"max_attempts": 4, "mode": "standard"}},
}

_NO_READ: Final = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
# the cast: isal's stub declares the class as an instance
_CORRUPT: Final = (BadGzipFile, zlib.error, cast(type[Exception], igzip_lib.IsalError))
#: What h5py raises beside OSError where the structure of a file is damaged.
_BROKEN_HDF5: Final = (RuntimeError, LookupError, ValueError, TypeError, OverflowError)


@dataclass(frozen=True)
class Source:
    """The root of a copy of NSD: the folder that holds ``nsddata`` and ``nsddata_betas``.

    Parameters
    ----------
    url : str
        An absolute folder or an fsspec URL. Make one with :func:`open_source`, which fills in the usual options.
    storage_options : mapping
        Passed to the fsspec file system (for S3: ``anon``, ``endpoint_url``, ...).
    """

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def join(self, path: str) -> str:
        """The full address of a path, for messages and provenance."""
        return f"{public(self.url).rstrip('/')}/{path}".rstrip("/")

    def exists(self, path: str) -> bool:
        """Whether the file (or folder) exists **and** may be read."""
        system, root = self._system()
        full = f"{root}/{path}"
        if _is_local(system):
            return _local_trouble(full, folders=True) is None
        with self.reading(path):
            try:
                system.info(full)
            except _NO_READ:
                return False
        return True

    def trouble(self, path: str) -> str | None:
        """Why a file cannot be read, as a phrase; None if it can.

        Links to nothing, empty files, pointers of git-annex and Git LFS, folders, pipes and devices, missing
        permissions all count. One request at most.
        """
        system, root = self._system()
        full = f"{root}/{path}"
        if _is_local(system):
            reason = _local_trouble(full)
        else:
            with self.reading(path):
                try:
                    reason = None if system.info(full)["size"] else "is empty"
                except PermissionError:
                    return "is not public"
                except _NO_READ:
                    return "does not exist"
            return reason
        if reason is not None:
            return reason
        with self.reading(path):
            start = self.head(path, 64)
        for begin, tool in _POINTERS.items():
            if start.startswith(begin):
                return f"holds a pointer of {tool}, not the content"
        return None

    def find(self, path: str) -> str | None:
        """The path, or the same file gunzipped or gzipped (``x.nii`` for ``x.nii.gz``), whichever can be read.

        If neither can be read, the existing one, whose error is more specific.
        """
        if self.trouble(path) is None:
            return path
        twins = [path.removesuffix(ending) + other for ending, other in _TWINS if path.endswith(ending)]
        there = [candidate for candidate in (path, *twins) if self.exists(candidate)]
        usable = (candidate for candidate in there if len(there) == 1 or self.trouble(candidate) is None)
        return next(usable, next(iter(there), None))

    def size(self, path: str) -> int:
        """Bytes of a file."""
        system, root = self._system()
        with self.reading(path):
            return int(system.info(f"{root}/{path}")["size"])

    def listdir(self, path: str = "") -> tuple[str, ...]:
        """Sorted names in a folder; nothing if the folder does not exist."""
        return tuple(sorted(self.sizes(path)))

    def sizes(self, path: str = "") -> dict[str, int]:
        """Bytes of each file in a folder by name, in one listing."""
        return {name: int(entry["size"] or 0) for name, entry in self._entries(path).items()}

    def stamps(self, path: str = "") -> dict[str, str]:
        """A text per name in a folder that changes with the file: bytes with ETag or modification time."""
        return {
            name: f"{entry['size']} {entry.get('ETag', entry.get('mtime', ''))}"
            for name, entry in self._entries(path).items()
        }

    def head(self, path: str, count: int) -> bytes:
        """The first ``count`` bytes, in one request."""
        system, root = self._system()
        with self.reading(path):
            _require_file(system, f"{root}/{path}")
            return cast(bytes, system.cat_file(f"{root}/{path}", start=0, end=count))

    def tail(self, path: str, count: int) -> bytes:
        """The last ``count`` bytes, in one request."""
        system, root = self._system()
        with self.reading(path):
            _require_file(system, f"{root}/{path}")
            return cast(bytes, system.cat_file(f"{root}/{path}", start=-count))

    def read(self, path: str, limit: int = WHOLE_FILE_BYTES) -> bytes:
        """The whole content of a small file.

        Raises
        ------
        SourceError
            The file has more than ``limit`` bytes.
        """
        with self.open(path) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise SourceError(
                f"{self.join(path)}: more than {limit:,} bytes, which no such file of NSD has; copy the published file"
            )
        return content

    @contextmanager
    def open(self, path: str, *, block: int = STREAM_BLOCK_BYTES) -> Iterator[BinaryIO]:
        """Open a file for reading bytes; errors while it is open name the file.

        Raises
        ------
        MissingDataError
            No such file, or it is not public.
        SourceError
            The file is truncated or corrupt, or no regular file.
        """
        system, root = self._system()
        full = f"{root}/{path}"
        with self.reading(path):
            _require_file(system, full)
            options = {} if _is_local(system) else {"block_size": block}
            with system.open(full, "rb", **options) as file:
                yield cast(BinaryIO, file)

    @contextmanager
    def open_stream(self, path: str) -> Iterator[BinaryIO]:
        """Open a file to read it from front to back, through igzip if its content is gzipped.

        Reading a gzipped file to its end checks its length and its CRC. No thread decompresses ahead: a task takes
        one core, so that as many tasks as there are cores run at full speed.
        """
        with self.open(path) as file:
            start = file.read(2)
            file.seek(0)
            if is_gzipped(path, start):
                with igzip.open(file, "rb") as stream:
                    yield cast(BinaryIO, stream)
            else:
                yield file

    @contextmanager
    def open_hdf5(self, path: str, dataset: str) -> Iterator[h5py.Dataset]:
        """Open one dataset of an HDF5 file, also while the file is open elsewhere in this process.

        Errors of HDF5 while it is open name the file, too.
        """
        system, root = self._system()
        try:
            if _is_local(system):
                full = f"{root}/{path}"
                with self.reading(path):
                    _require_file(system, full)
                    with _open_local_hdf5(full) as file:
                        yield self._dataset(file, path, dataset)
            else:
                with self.open(path, block=RANDOM_BLOCK_BYTES) as raw, h5py.File(raw, "r") as file:
                    yield self._dataset(file, path, dataset)
        except NsdflowError:
            raise
        except _BROKEN_HDF5 as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SourceError(f"{self.join(path)}: damaged HDF5 ({reason}); fetch it again") from error

    def _dataset(self, file: h5py.File, path: str, name: str) -> h5py.Dataset:
        if not isinstance(file.get(name), h5py.Dataset):
            raise SourceError(
                f"{self.join(path)}: no dataset {name!r}, only {', '.join(file) or 'nothing'}; copy the published file"
            )
        return file[name]

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Turn errors of reading a file into one line that names it."""
        try:
            yield
        except (SourceError, MissingDataError):
            raise
        except PermissionError:
            raise MissingDataError(f"{self.join(path)}: not public, or no permission to read it") from None
        except (FileNotFoundError, NotADirectoryError):
            raise MissingDataError(
                f"{self.join(path)}: no such file; `nsdflow check {public(self.url)}` lists the files that are there"
            ) from None
        except EOFError:
            raise SourceError(f"{self.join(path)}: truncated; fetch it again") from None
        except _CORRUPT as error:
            raise SourceError(f"{self.join(path)}: corrupt ({error}); fetch it again") from None
        except Exception as error:
            if not isinstance(error, (OSError, *store_errors())):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            if is_local(self.url):
                raise SourceError(f"{self.join(path)}: cannot be read ({reason}); {_advice(reason)}") from None
            raise SourceError(
                f"{self.join(path)}: cannot be reached ({reason}); check the network, or copy NSD to a folder first"
            ) from None

    def _entries(self, path: str) -> dict[str, Mapping[str, Any]]:
        """fsspec's record of each name in a folder; nothing if the folder does not exist."""
        system, root = self._system()
        with self.reading(path):
            try:
                entries = system.ls(f"{root}/{path}".rstrip("/"), detail=True)
            except _NO_READ:
                return {}
        return {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}

    def _system(self) -> tuple[Any, str]:
        """The file system and the root in its own terms (fsspec keeps one instance per process and thread)."""
        system, root = filesystem(self.url, **self.storage_options)
        return system, root.rstrip("/")


def is_gzipped(path: str, start: bytes) -> bool:
    """Whether content that begins with ``start`` is gzipped; the name decides only where there is no content.

    >>> is_gzipped("mean.nii.gz", b"\\x5c\\x01"), is_gzipped("mean.nii.gz", b"")
    (False, True)
    """
    return start.startswith(_GZIP_MAGIC) if len(start) > 1 else path.endswith(GZIPPED)


def open_source(url: str | Path, storage_options: Mapping[str, Any] | None = None) -> Source:
    """The source at a folder or URL; ``s3://`` is read anonymously unless the options name an identity.

    Opens no file; the first read does.

    Raises
    ------
    ConfigError
        No file system for this kind of URL is installed.

    Examples
    --------
    >>> open_source("s3://natural-scenes-dataset").join("nsddata")
    's3://natural-scenes-dataset/nsddata'
    """
    text = normalize(url)
    options = dict(storage_options or {})
    if text.startswith("s3://"):
        options = {"anon": not _S3_CREDENTIALS & options.keys(), **_S3_DEFAULTS, **options}
    return Source(text, options)


def _local_trouble(full: str, *, folders: bool = False) -> str | None:
    """Why a local file cannot be read, as a phrase; None where it can."""
    try:
        mode = Path(full).stat().st_mode
    except FileNotFoundError:
        return (
            "is a link to nothing (annexed content that was not fetched?)"
            if Path(full).is_symlink()
            else "does not exist"
        )
    except OSError as error:  # a link to itself, a folder that may not be entered
        return f"cannot be reached ({error.strerror})"
    if stat.S_ISDIR(mode):
        return None if folders and os.access(full, os.R_OK) else "is a folder"
    if not stat.S_ISREG(mode):
        return "is a pipe, socket or device"
    if not os.access(full, os.R_OK):
        return "may not be read (no permission)"
    return None if folders or Path(full).stat().st_size else "is empty"


def _require_file(system: Any, full: str) -> None:
    """Refuse pipes and devices, whose reading would never end."""
    if _is_local(system) and not stat.S_ISREG(mode := Path(full).stat().st_mode) and not stat.S_ISDIR(mode):
        raise OSError("not a regular file")


def _open_local_hdf5(full: str) -> h5py.File:
    """Open an HDF5 file under the lock settings that it is open with elsewhere in this process, if it is."""
    for locking in _LOCKINGS:
        try:
            return h5py.File(full, "r", locking=locking)
        except OSError as error:
            if "file locking" not in str(error):
                raise
    return h5py.File(full, "r")


def _advice(reason: str) -> str:
    """Advice after a local file could not be read."""
    if "already open" in reason or "file locking" in reason or "unable to lock" in reason:
        return "the file is open for writing elsewhere; close it there and run the same command again"
    if "not a regular file" in reason:
        return "put the published file in its place"
    if "truncated file" in reason or "signature not found" in reason:
        return "fetch it again"
    return "check the disk and the file system, then run the same command again"


def _is_local(system: Any) -> bool:
    protocol = system.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)
