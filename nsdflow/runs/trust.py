"""Checks of a results tree from an untrusted source, before any value of it is decoded.

Results are Zarr format 3 with the codecs that nsdflow writes. Every file lies in the folder itself, no array is larger
than its metadata allow, and no chunk decompresses to more than a chunk holds.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from nsdflow.errors import RunError, StoreError
from nsdflow.io.paths import filesystem, is_local, local_path
from nsdflow.io.reach import reaching
from nsdflow.io.read import read_json
from nsdflow.io.seal import check_seal

__all__ = ["check_results", "require_own_file"]

#: Codecs of the results that nsdflow and xarray write.
KNOWN_CODECS: Final = frozenset(
    {"bytes", "vlen-utf8", "zstd", "blosc", "gzip", "crc32c", "transpose", "sharding_indexed"}
)
#: Largest chunk of an array of numbers, and largest chunk of texts, after decompression.
DECODED_CHUNK_BYTES: Final = 1 << 30
TEXT_CHUNK_BYTES: Final = 256 << 20
#: Largest array.
ARRAY_BYTES: Final = 1 << 42
#: Folder of chunks within that of their array.
_CHUNK_FOLDER: Final = re.compile(r"/c(/[0-9]+)*$")
#: Bytes of a chunk that say how large it is after decompression.
HEAD_BYTES: Final = 18
#: Chunks of results in a bucket at most: the head of each is fetched.
MOST_OBJECTS: Final = 20_000
#: First bytes of a zstd frame.
ZSTD_MAGIC: Final = 0xFD2FB528


def check_results(url: str) -> frozenset[str]:
    """Refuse results that are not as nsdflow writes them.

    Parameters
    ----------
    url : str
        Path or URL of ``results.zarr``.

    Returns
    -------
    frozenset of str
        Paths of the arrays whose chunk files end with a checksum.

    Raises
    ------
    RunError
        The results hold another Zarr format, a foreign codec, an oversized array or chunk, a link out of the folder, or
        an entry that is not a regular file.
    """
    try:
        root = read_json(f"{url}/zarr.json", "run again")
    except FileNotFoundError:
        raise RunError(f"{url}: no zarr.json (Zarr format 3) in it; {_ADVICE}") from None
    except StoreError as error:
        raise RunError(str(error)) from None
    arrays = {path: _check_array(f"{url}/{path}", node) for path, node in _arrays(url, root)}
    if is_local(url):
        try:
            _check_files(local_path(url), arrays)
        except OSError as error:  # a link to nothing or to itself, no permission, a fault of the disk
            raise RunError(f"{error.filename}: cannot be read ({error.strerror}); {_ADVICE}") from None
    else:
        _check_objects(url, arrays)
    try:  # after the checks with more specific messages
        check_seal(root, f"{url}/zarr.json", _ADVICE)
    except StoreError as error:
        raise RunError(str(error)) from None
    return frozenset(path for path, expected in arrays.items() if expected.complete)


_ADVICE: Final = "these are not results of nsdflow, or damaged; remove the folder and run again"


def _arrays(url: str, root: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    consolidated = root.get("consolidated_metadata")
    nodes = consolidated.get("metadata") if isinstance(consolidated, Mapping) else None
    if not isinstance(nodes, Mapping):
        raise RunError(f"{url}: no consolidated metadata; {_ADVICE}")
    for path, node in {"": root, **nodes}.items():
        parts = path.split("/") if path else []
        if any(part in ("", ".", "..") or not part.isprintable() or "\\" in part for part in parts):
            raise RunError(f"{url}: a group or an array is called {path!r}; {_ADVICE}")
        if not isinstance(node, Mapping) or node.get("zarr_format") != 3:
            raise RunError(f"{url}/{path}: not Zarr format 3; {_ADVICE}")
        if node.get("node_type") == "array":
            yield path, node


class _Expected(NamedTuple):
    """The chunks of an array."""

    chunk_bytes: int
    """Largest size of a decoded chunk."""
    grid: tuple[int, ...]
    """Number of chunk files along each axis."""
    complete: bool
    """Whether every chunk has a file; version 0.1.0 did not write empty ones."""

    @property
    def files(self) -> int:
        """Number of chunk files."""
        return prod(self.grid)


def _check_array(url: str, node: Mapping[str, Any]) -> _Expected:
    try:
        shape = [int(size) for size in node["shape"]]
        chunk = [int(size) for size in node["chunk_grid"]["configuration"]["chunk_shape"]]
        names = list(_codec_names(node["codecs"]))
        foreign = sorted(set(names) - KNOWN_CODECS)
        itemsize = _itemsize(node["data_type"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RunError(f"{url}: damaged metadata ({type(error).__name__}: {error}); {_ADVICE}") from None
    if foreign:
        raise RunError(f"{url}: codec {foreign[0]!r} is not one that nsdflow writes; {_ADVICE}")
    size = prod(chunk) * (itemsize or 1)
    if min([*shape, *chunk, 0]) < 0 or size > DECODED_CHUNK_BYTES or prod(shape) * (itemsize or 1) > ARRAY_BYTES:
        raise RunError(f"{url}: shape {shape} in chunks of {chunk} is too large; {_ADVICE}")
    complete = names[-1:] == ["crc32c"] and "sharding_indexed" not in names
    grid = tuple(-(-length // max(1, step)) for length, step in zip(shape, chunk, strict=True))
    return _Expected(size if itemsize else TEXT_CHUNK_BYTES, grid, complete)


def _itemsize(data_type: Any) -> int | None:
    """Bytes of a value; None for texts of any length."""
    if isinstance(data_type, Mapping):
        return int(data_type["configuration"]["length_bytes"])
    return None if data_type in ("string", "variable_length_bytes") else np.dtype(str(data_type)).itemsize


def _codec_names(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        yield str(codec["name"])
        for inner in ("codecs", "index_codecs"):
            yield from _codec_names(codec.get("configuration", {}).get(inner, ()))


def _check_files(root: Path, arrays: Mapping[str, _Expected]) -> None:
    """Check kind and place of every file, the size that its zstd frame states, and that no chunk is missing."""
    inside = root.resolve()
    found: Counter[str] = Counter()
    for folder, folders, names in os.walk(root):
        array = _CHUNK_FOLDER.sub("", os.path.relpath(folder, root))
        for name in [*folders, *names]:
            file = Path(folder, name)
            if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(inside):
                raise RunError(f"{file}: a symbolic link out of the folder; copy the file itself there")
        for name in names:
            file = Path(folder, name)
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                raise RunError(f"{file}: a pipe or a device where a file is expected; {_ADVICE}")
            if array in arrays and name != "zarr.json":
                found[array] += 1
                with file.open("rb") as stream:
                    _check_frame(str(file), stream.read(HEAD_BYTES), arrays[array].chunk_bytes)
    _check_counts(str(root), arrays, found)


def _check_objects(url: str, arrays: Mapping[str, _Expected]) -> None:
    """The same for results in a bucket: the head of every chunk is fetched, many at a time."""
    if (count := sum(expected.files for expected in arrays.values())) > MOST_OBJECTS:
        raise RunError(f"{url}: {count} chunks where at most {MOST_OBJECTS} are expected; {_ADVICE}")
    chunks = [
        (array, "/".join([url, *array.split("/"), "c", *map(str, position)]))
        for array, expected in arrays.items()
        for position in np.ndindex(expected.grid)
    ]
    system, _ = filesystem(url)
    with reaching(url):
        paths = [filesystem(chunk)[1] for _, chunk in chunks]
        heads = system.cat_ranges(paths, 0, HEAD_BYTES, on_error="return") if paths else []
    found: Counter[str] = Counter()
    for (array, chunk), head in zip(chunks, heads, strict=True):
        if isinstance(head, FileNotFoundError):
            continue
        if isinstance(head, Exception):
            with reaching(chunk):
                raise head
        found[array] += 1
        _check_frame(chunk, head, arrays[array].chunk_bytes)
    _check_counts(url, arrays, found)


def _check_counts(root: str, arrays: Mapping[str, _Expected], found: Mapping[str, int]) -> None:
    for array, expected in arrays.items():
        missing = expected.files - found[array]
        if expected.complete and missing > 0:
            raise RunError(f"{root}/{array}: {missing} of {expected.files} chunks are missing; {_ADVICE}")


def _check_frame(file: str, head: bytes, limit: int) -> None:
    size = zstd_content_size(head)
    if size is not None and size > limit:
        raise RunError(f"{file}: decompresses to more than the {limit} bytes of a chunk; {_ADVICE}")


def zstd_content_size(head: bytes) -> int | None:
    """Decompressed size that a zstd frame states; None if it is not a frame, ``2**64`` if it does not state any.

    The layout of the header is that of RFC 8878, section 3.1.1.1.
    """
    if len(head) < 6 or struct.unpack("<I", head[:4])[0] != ZSTD_MAGIC:
        return None
    descriptor = head[4]
    flag, single = descriptor >> 6, descriptor >> 5 & 1
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[flag]
    field = head[start : start + width]
    if width == 0 or len(field) < width:
        return 2**64
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


def require_own_file(url: str) -> None:
    """Refuse to write through a symbolic link.

    Raises
    ------
    RunError
        The path is a symbolic link, or a folder with one in it.
    """
    if not is_local(url):
        return
    place = local_path(url)
    inside = (Path(folder, name) for folder, folders, files in os.walk(place) for name in (*folders, *files))
    for path in chain([place], () if place.is_symlink() else inside):
        if path.is_symlink():
            raise RunError(f"{path}: a symbolic link; nsdflow writes only into the folder itself, so remove the link")
