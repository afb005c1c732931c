"""NSD's transform files: positions of the voxels and vertices of one space in another."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.nsd.formats.frames import FrameHeader, read_header, stream_frames
from nsdflow.nsd.source import Source
from nsdflow.nsd.spaces.grids import Grid
from nsdflow.nsd.spaces.sampling import Points

__all__ = [
    "grid_shape",
    "read_index",
    "read_points",
    "read_transform",
    "transform_path",
    "vertex_count",
]


Shape = tuple[int, int, int]


def transform_path(subject: str, origin: str, target: str, hemisphere: str | None = None) -> str:
    """Path of the file on the grid of ``target`` with positions in ``origin``, both named as in file names."""
    folder = f"nsddata/ppdata/{subject}/transforms"
    if hemisphere is None:
        return f"{folder}/{origin}-to-{target}.nii.gz"
    return f"{folder}/{hemisphere}.{origin}-to-{target}.mgz"


def read_points(source: Source, path: str, shape: Shape) -> tuple[Points, Shape]:
    """Read the valid points of a transform, and the shape of its grid.

    The three coordinates are one volume after the other. Each is reduced to the points that are still valid before the
    next is read, so that memory stays near one coordinate of the whole grid.

    Parameters
    ----------
    shape : tuple of int
        (i, j, k) of the volume that the coordinates point into.

    Returns
    -------
    points : Points
        Targets in C order.
    grid : tuple of int
        (i, j, k) of the targets; (vertex, 1, 1) on a surface.

    Raises
    ------
    MissingDataError
        No such file.
    SourceError
        Not three coordinates of each target, or damaged.
    """
    header = _header(source, path, 3)
    index: NDArray[np.int64] | None = None
    kept: list[NDArray[Any]] = []
    for axis, frame in enumerate(stream_frames(source, path, header=header)):
        c = np.asarray(frame if index is None else frame[index], np.float32)
        inside = np.flatnonzero((c >= 1) & (c <= shape[axis]))  # NaN fails both
        index = inside.astype(np.int64) if index is None else index[inside]
        kept = [*(before[inside] for before in kept), c[inside]]
    assert index is not None
    order = _c_order(index, header.shape)
    return Points(prod(header.shape), order, np.stack(kept, axis=1)), header.shape


def read_transform(source: Source, path: str) -> NDArray[np.float32]:
    """All coordinates (vertex, 3) of a transform to a surface, valid or not."""
    frames = stream_frames(source, path, header=_header(source, path, 3))
    return np.stack([frame.astype(np.float32) for frame in frames], axis=1)


def read_index(source: Source, path: str, count: int) -> NDArray[np.intp]:
    """The vertex (from 0) of another surface, of ``count`` vertices, that is nearest to each vertex of this one.

    Raises
    ------
    SourceError
        Values that are not vertices of a surface of that size.
    """
    (frame,) = stream_frames(source, path, header=_header(source, path, 1))
    stored = frame.astype(np.float64)
    index = np.nan_to_num(stored).astype(np.intp)
    if not np.array_equal(index, stored) or index.min() < 1 or index.max() > count:
        raise SourceError(
            f"{source.join(path)}: vertices from {stored.min():g} to {stored.max():g} where the surface has 1 to "
            f"{count}; take both from the same subject"
        )
    return index - 1


def vertex_count(source: Source, path: str) -> int:
    """Number of vertices of the surface of a transform file."""
    return read_header(source, path).shape[0]


def grid_shape(source: Source, subject: str, grid: Grid) -> Shape | None:
    """Shape of a volume space, from any transform on its grid; None without such a transform."""
    for origin in ("anat1pt0", "func1pt8", "func1pt0", "MNI", "anat0pt8", "anat0pt5"):
        if origin != grid.file_name:
            try:
                return read_header(source, transform_path(subject, origin, grid.file_name)).shape
            except MissingDataError:
                continue
    return None


def _header(source: Source, path: str, count: int) -> FrameHeader:
    header = read_header(source, path)
    if header.count != count:
        raise SourceError(
            f"{source.join(path)}: {header.count} values per target where a transform has {count}; fetch it again"
        )
    return header


def _c_order(index: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
    """Flat indices of a file (first axis fastest) as flat indices in C order."""
    i, rest = index % shape[0], index // shape[0]
    return (i * shape[1] + rest % shape[1]) * shape[2] + rest // shape[1]
