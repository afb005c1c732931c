"""FreeSurfer's surfaces, values per vertex, and patches (which nibabel cannot read)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from nsdflow.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["Geometry", "Patch", "read_curvature", "read_geometry", "read_patch"]

_SURFACE: Final = b"\xff\xff\xfe"
_CURVATURE: Final = b"\xff\xff\xff"
_PATCH_RECORD: Final = np.dtype([("vertex", ">i4"), ("xyz", ">f4", 3)])


@dataclass(frozen=True)
class Geometry:
    """A triangulated surface.

    Attributes
    ----------
    vertices : numpy.ndarray
        (vertex, 3) float64, mm.
    faces : numpy.ndarray
        (face, 3) int32, counter-clockwise from outside.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]


@dataclass(frozen=True)
class Patch:
    """A part of a surface, cut out and usually flattened.

    Attributes
    ----------
    vertices : numpy.ndarray
        (n,) int64, which vertices of the surface.
    places : numpy.ndarray
        (n, 3) float64, mm.
    border : numpy.ndarray
        (n,) bool, at the edge of the cut.
    """

    vertices: NDArray[np.int64]
    places: NDArray[np.float64]
    border: NDArray[np.bool_]


def read_geometry(source: Source, path: str) -> Geometry:
    """Read a triangle surface (``lh.white``, ``lh.inflated``, ``lh.layerB1``, ...), in FreeSurfer's own coordinates.

    Raises
    ------
    MissingDataError
        No such file.
    SourceError
        Not a triangle surface, or truncated.
    """
    data = _read(source, path)
    end = data.find(b"\n\n")
    if data[:3] != _SURFACE or end < 0:
        raise SourceError(f"{source.join(path)}: not a FreeSurfer triangle surface; copy the published file")
    start = end + 2
    _require(source, path, data, start + 8)
    vertices, faces = np.frombuffer(data, ">i4", 2, start).tolist()
    middle = start + 8 + 12 * vertices
    _require(source, path, data, middle + 12 * faces)
    xyz = np.frombuffer(data, ">f4", 3 * vertices, start + 8).reshape(-1, 3)
    corners = np.frombuffer(data, ">i4", 3 * faces, middle).reshape(-1, 3)
    return Geometry(xyz.astype(np.float64), corners.astype(np.int32))


def read_curvature(source: Source, path: str) -> NDArray[np.float32]:
    """Read values per vertex in FreeSurfer's curvature format (``lh.curv``, ``lh.sulc``, ``lh.thickness``)."""
    data = _read(source, path)
    if data[:3] != _CURVATURE or len(data) < 15:
        raise SourceError(f"{source.join(path)}: not in FreeSurfer's curvature format; copy the published file")
    count = int(np.frombuffer(data, ">i4", 1, 3)[0])
    _require(source, path, data, 15 + 4 * count)
    return np.frombuffer(data, ">f4", count, 15).astype(np.float32)


def read_patch(source: Source, path: str) -> Patch:
    """Read a patch (``lh.full.flat.patch.3d``): numbers count from 1, and are negative at the border."""
    data = _read(source, path)
    marker, count = np.frombuffer(data, ">i4", 2).tolist() if len(data) >= 8 else (0, 0)
    if marker != -1:
        raise SourceError(f"{source.join(path)}: not a FreeSurfer patch; copy the published file")
    _require(source, path, data, 8 + _PATCH_RECORD.itemsize * count)
    records = np.frombuffer(data, _PATCH_RECORD, count, 8)
    numbers = records["vertex"].astype(np.int64)
    return Patch(np.abs(numbers) - 1, records["xyz"].astype(np.float64), numbers < 0)


def _read(source: Source, path: str) -> bytes:
    with source.open(path) as file:
        return file.read()


def _require(source: Source, path: str, data: bytes, size: int) -> None:
    if len(data) < size:
        raise SourceError(f"{source.join(path)}: truncated: {len(data)} bytes of {size}; copy it again")
