"""Coordinates of a group, in memory: small arrays of one chunk each, read together.

Through zarr and xarray the some forty coordinates of a subject take ten times as long as all responses of V1.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
import zarr
from numcodecs import zstd

from nsdflow.errors import StoreError
from nsdflow.io.read import parse_metadata, read_all
from nsdflow.store.memory import fresh_array
from nsdflow.store.schema import COORDINATES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_coordinate", "read_coordinates"]

#: Every array begins at a multiple of so many bytes, a line of the cache.
ALIGNMENT: Final = 64
#: How the arrays are stored, as zarr's metadata names the steps.
_PLAIN: Final = (["bytes"], ["bytes", "zstd"])


def read_coordinates(url: str, group: str) -> xr.Dataset:
    """Coordinates of a group with their attributes, those of the schema first.

    Raises
    ------
    StoreError
        A file of a coordinate is missing or damaged: a hole is an error, never zeros.
    """
    root = f"{url}/{group}"
    (head,) = _metadata([root])
    attributes = dict(head.get("attributes", {}))
    found = set(str(attributes.pop("coordinates", "")).split())
    names = [*(name for name in COORDINATES if name in found), *sorted(found - COORDINATES.keys())]
    metadata = _metadata([f"{root}/{name}" for name in names])
    plain = [name for name, meta in zip(names, metadata, strict=True) if _is_plain(meta)]
    files = [_chunk_url(f"{root}/{name}", meta) for name, meta in zip(names, metadata, strict=True) if name in plain]
    data = dict(zip(plain, _files(files), strict=True))
    arrays = _allocate({name: meta for name, meta in zip(names, metadata, strict=True) if name in data})
    coordinates: dict[str, Any] = {}
    for name, meta in zip(names, metadata, strict=True):
        where = f"{root}/{name}"
        if name in arrays:
            _decode(data[name], meta, where, out=arrays[name])
        else:
            arrays[name] = np.asarray(zarr.open_array(where, mode="r")[...])
        attrs = {key: value for key, value in meta["attributes"].items() if key != "_FillValue"}
        coordinates[name] = (tuple(meta["dimension_names"]), arrays[name], attrs)
    return xr.Dataset(coords=coordinates, attrs=attributes)


def read_coordinate(group: str, name: str) -> NDArray[Any]:
    """One coordinate of a group.

    Parameters
    ----------
    group : str
        Path or URL of the group.
    name : str
        Name of the coordinate.
    """
    url = f"{group}/{name}"
    (metadata,) = _metadata([url])
    if not _is_plain(metadata):
        return np.asarray(zarr.open_array(url, mode="r")[...])
    (data,) = _files([_chunk_url(url, metadata)])
    values = _allocate({name: metadata})[name]
    _decode(data, metadata, url, out=values)
    return values


def _metadata(urls: list[str]) -> list[dict[str, Any]]:
    files = [f"{url}/zarr.json" for url in urls]
    return [parse_metadata(data, file) for data, file in zip(_files(files), files, strict=True)]


def _files(urls: list[str]) -> list[bytes]:
    try:
        return read_all(urls)
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename or error}: missing; the store is incomplete, ingest again") from error


def _chunk_url(url: str, metadata: Mapping[str, Any]) -> str:
    """The file of the only chunk of an array."""
    return "/".join([url, "c", *("0" for _ in metadata["shape"])])


def _is_plain(metadata: Mapping[str, Any]) -> bool:
    """Whether an array is one chunk, encoded as this module reads it; others are left to zarr."""
    steps = [codec["name"] for codec in metadata["codecs"]]
    return metadata["chunk_grid"]["configuration"]["chunk_shape"] == metadata["shape"] != [0] and steps in _PLAIN


def _allocate(metadata: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Arrays to be filled, side by side in one piece of memory: each alone would be too small for huge pages."""
    kinds = {name: np.dtype(meta["data_type"]).newbyteorder("<") for name, meta in metadata.items()}
    sizes = {name: prod(meta["shape"]) * kinds[name].itemsize for name, meta in metadata.items()}
    starts = list(accumulate((-(-size // ALIGNMENT) * ALIGNMENT for size in sizes.values()), initial=0))
    memory = fresh_array((starts[-1],), np.uint8)
    return {
        name: memory[start : start + sizes[name]].view(kinds[name]).reshape(meta["shape"])
        for (name, meta), start in zip(metadata.items(), starts[:-1], strict=True)
    }


def _decode(data: bytes, metadata: Mapping[str, Any], where: str, *, out: NDArray[Any]) -> None:
    try:
        raw = zstd.decompress(data) if len(metadata["codecs"]) > 1 else data
        out.ravel()[...] = np.frombuffer(raw, out.dtype)
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"{where}: damaged ({error}); ingest again") from error
