"""Coordinates of a group: small arrays of one chunk each, read together, or each when it is first used.

Through zarr and xarray, the forty coordinates of a subject take ten times as long to read as all responses of V1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import accumulate
from math import prod
from typing import Any, Final

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from nsdflow.errors import StoreError
from nsdflow.io.paths import is_local, local_path
from nsdflow.io.read import parse_metadata, read_all, read_metadata
from nsdflow.io.seal import check_seal
from nsdflow.store.memory import fresh_array
from nsdflow.store.query.late import LateArray
from nsdflow.store.schema import COORDINATES
from nsdflow.store.shard_format import CODECS, verified

__all__ = ["late_coordinates", "nodes_below", "read_coordinate", "read_coordinates"]

#: Alignment of every array: one line of the processor's cache.
ALIGNMENT_BYTES: Final = 64
#: Codecs of the arrays, as zarr's metadata names them; version 0.1.0 wrote no checksums.
STEPS: Final = (["bytes", "zstd", "crc32c"], ["bytes", "zstd"], ["bytes"], ["bytes", "crc32c"])
#: Core codecs of Zarr with which another program may have written a coordinate; zarr reads those.
FOREIGN_STEPS: Final = frozenset({"bytes", "zstd", "crc32c", "gzip", "blosc", "transpose", "sharding_indexed"})
#: Types of coordinates.
TYPES: Final = frozenset({"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float32",
                          "float64"})  # fmt: skip
#: Largest size of a coordinate; metadata that announce more are refused before memory is allocated.
LARGEST_BYTES: Final = 1 << 30


def read_coordinates(url: str, group: str) -> xr.Dataset:
    """Coordinates of a group in memory with their attributes, those of the schema first.

    Metadata are those in the root of the store, which has a checksum over them; files of the group count where the
    root does not name it, in a store that is being built.

    Raises
    ------
    StoreError
        A file of a coordinate is missing or damaged: a hole is an error, never zeros.
    """
    nodes = nodes_below(_root(url), group)
    attributes, names = _names(nodes[""] if nodes else _metadata([f"{url}/{group}"])[0])
    urls = [f"{url}/{group}/{name}" for name in names]
    metadata = [nodes[name] for name in names] if nodes.keys() >= set(names) else _metadata(urls)
    arrays = _read(urls, metadata)
    return xr.Dataset(coords=_variables(dict(zip(names, arrays, strict=True)), metadata), attrs=attributes)


def _root(url: str) -> dict[str, Any]:
    """Metadata of the root of a store; empty where there are none yet."""
    file = f"{url}/zarr.json"
    try:
        root = read_metadata(file)
    except FileNotFoundError:
        return {}
    check_seal(root, file, "ingest again")
    return root


def nodes_below(root: Mapping[str, Any], group: str) -> dict[str, Mapping[str, Any]]:
    """Consolidated metadata of a group (named ``""``) and of its members, by name; empty where there are none."""
    nodes = (root.get("consolidated_metadata") or {}).get("metadata") or {}
    found = {path.removeprefix(f"{group}/"): node for path, node in nodes.items() if path.startswith(f"{group}/")}
    return {"": nodes[group], **found} if group in nodes else {}


def late_coordinates(
    group: str,
    node: Mapping[str, Any],
    nodes: Mapping[str, Mapping[str, Any]],
    read: Callable[[str, Mapping[str, Any]], NDArray[Any]],
) -> tuple[dict[str, xr.Variable], dict[str, Any]]:
    """Coordinates of a group that are read when they are first used, and the attributes of the group.

    Parameters
    ----------
    node : mapping
        Metadata of the group.
    nodes : mapping
        Metadata of its arrays, by name.
    read : callable
        ``read(name, metadata)`` reads one coordinate.

    Raises
    ------
    StoreError
        The metadata are not those of a coordinate.
    """
    attributes, names = _names(node)
    late: dict[str, LateArray] = {}
    for name in names:
        if name not in nodes:
            raise StoreError(f"{group}/{name}: missing; the store is incomplete, ingest again")
        _check(f"{group}/{name}", meta := nodes[name])
        if len(meta["shape"]) != 1:
            raise StoreError(f"{group}/{name}: not a coordinate of nsdflow (shape {meta['shape']}); ingest again")
        late[name] = LateArray(cache(partial(read, name, meta)), meta["shape"][0], meta["data_type"])
    return _variables(late, [nodes[name] for name in names]), attributes


def _names(node: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Attributes of a group without the list of its coordinates, and this list."""
    attributes = dict(node.get("attributes", {}))
    found = set(str(attributes.pop("coordinates", "")).split())
    return attributes, [*(name for name in COORDINATES if name in found), *sorted(found - COORDINATES.keys())]


def _variables(arrays: Mapping[str, Any], metadata: Sequence[Mapping[str, Any]]) -> dict[str, xr.Variable]:
    variables: dict[str, xr.Variable] = {}
    for (name, array), meta in zip(arrays.items(), metadata, strict=True):
        attrs = {key: value for key, value in meta["attributes"].items() if key != "_FillValue"}
        variables[name] = xr.Variable(tuple(meta["dimension_names"]), array, attrs)
    return variables


def read_coordinate(group: str, name: str) -> NDArray[Any]:
    """One coordinate of a group."""
    url = f"{group}/{name}"
    (values,) = _read([url], _metadata([url]))
    return values


def _metadata(urls: list[str]) -> list[dict[str, Any]]:
    files = [f"{url}/zarr.json" for url in urls]
    return [parse_metadata(data, file) for data, file in zip(_files(files), files, strict=True)]


def _files(urls: list[str]) -> list[bytes]:
    try:
        return read_all(urls)
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename or error}: missing; the store is incomplete, ingest again") from None


def _read(urls: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> list[NDArray[Any]]:
    """Arrays of one chunk each."""
    for url, meta in zip(urls, metadata, strict=True):
        _check(url, meta)
    arrays = _allocate(metadata)
    filled = [n for n, array in enumerate(arrays) if array.size]
    for n in [n for n in filled if not _is_ours(metadata[n])]:
        place = LocalStore(local_path(urls[n])) if is_local(urls[n]) else urls[n]
        try:
            arrays[n][...] = zarr.open_array(place, mode="r", zarr_format=3)[...]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # of zarr and its codecs
            raise StoreError(f"{urls[n]}: damaged ({' '.join(str(error).split())}); ingest again") from None
        filled.remove(n)
    files = ["/".join([urls[n], "c", *("0" for _ in metadata[n]["shape"])]) for n in filled]
    for n, data in zip(filled, _files(files), strict=True):
        _decode(data, _steps(metadata[n]), urls[n], out=arrays[n])
    return arrays


def _steps(metadata: Mapping[str, Any]) -> list[str]:
    return [str(codec["name"]) for codec in metadata["codecs"]]


def _is_ours(metadata: Mapping[str, Any]) -> bool:
    """Whether an array is one chunk, encoded as this module reads it."""
    chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    return bool(chunk == metadata["shape"]) and _steps(metadata) in STEPS


def _check(url: str, metadata: Mapping[str, Any]) -> None:
    """Refuse coordinates that a store of nsdflow never holds; no codec is looked up by its name.

    Raises
    ------
    StoreError
        A codec or type that no coordinate has, or a size that is too large.
    """
    try:
        shape, steps, kind = metadata["shape"], _steps(metadata), metadata["data_type"]
        size = prod(shape) * np.dtype(kind).itemsize if kind in TYPES else -1
        right = FOREIGN_STEPS.issuperset(steps) and 0 <= size <= LARGEST_BYTES and metadata["zarr_format"] == 3
        right = right and len(metadata["chunk_grid"]["configuration"]["chunk_shape"]) == len(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{url}: not a coordinate of nsdflow ({error!r}); ingest again") from None
    if not right:
        described = f"{kind}, shape {shape}, codecs {', '.join(steps)}"
        raise StoreError(f"{url}: not a coordinate of nsdflow ({described}); ingest again")


def _allocate(metadata: Sequence[Mapping[str, Any]]) -> list[NDArray[Any]]:
    """Arrays to be filled, side by side in one piece of memory: each alone would be too small for huge pages."""
    kinds = [np.dtype(meta["data_type"]).newbyteorder("<") for meta in metadata]
    sizes = [prod(meta["shape"]) * kind.itemsize for meta, kind in zip(metadata, kinds, strict=True)]
    starts = list(accumulate((-(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for size in sizes), initial=0))
    memory = fresh_array((starts[-1],), np.uint8)
    return [
        memory[start : start + size].view(kind).reshape(meta["shape"])
        for meta, kind, size, start in zip(metadata, kinds, sizes, starts[:-1], strict=True)
    ]


def _decode(data: bytes, steps: list[str], where: str, *, out: NDArray[Any]) -> None:
    content = verified(data, where) if "crc32c" in steps else data
    try:
        CODECS["zstd" if "zstd" in steps else "none"].decode(content, out)
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"{where}: damaged ({error}); ingest again") from None
