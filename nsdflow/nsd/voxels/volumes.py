"""Volumes and surface maps of a subject: ncsnr, brain mask, segmentation, validity, R2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import SourceError
from nsdflow.nsd import layout
from nsdflow.nsd.formats.frames import FrameHeader, check_plausible, read_header, stream_frames
from nsdflow.nsd.source import Source

__all__ = [
    "Volume",
    "read_aseg",
    "read_brainmask",
    "read_map",
    "read_means",
    "read_ncsnr",
    "read_valid",
    "read_volume",
]


@dataclass(frozen=True)
class Volume:
    """A volume or surface map as stored.

    Attributes
    ----------
    values : numpy.ndarray
        (i, j, k); (i, j, k, n) for several volumes in a file; (vertex,) for a surface.
    affine : numpy.ndarray or None
        4 x 4, voxel indices to mm from the centre of the volume (NSD's functional grids are not in register with
        its anatomy by their affines); None for a surface, or where the file has no invertible affine.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64] | None


def read_volume(source: Source, path: str, *, shape: Sequence[int] | None = None) -> Volume:
    """Read one NIfTI or MGH file in its own type, or its gunzipped (or gzipped) twin where only that exists.

    Parameters
    ----------
    path : str
        The file, such as ``nsddata/ppdata/subj01/func1pt8mm/mean.nii.gz``.
    shape : sequence of int, optional
        The grid that the file must have.

    Raises
    ------
    MissingDataError
        No such file, or it is not public.
    SourceError
        Broken, or on another grid than ``shape``.
    """
    path, header = _fitting_header(source, path, shape)
    values = np.empty((header.count, int(np.prod(header.shape))), header.dtype.newbyteorder("="))
    for row, frame in zip(values, stream_frames(source, path, header=header), strict=True):
        row[:] = frame
    grid = values.reshape((header.count, *reversed(header.shape))).T  # first axis fastest, frames last
    affine = None if header.affine is None else np.array(header.affine)
    return Volume(grid[..., 0] if header.count == 1 else grid, affine)


def _fitting_header(source: Source, path: str, shape: Sequence[int] | None) -> tuple[str, FrameHeader]:
    """The existing path and its header, checked against the size of the file and the requested grid."""
    path = source.find(path) or path
    header = read_header(source, path)
    if shape is not None and header.shape != tuple(shape):
        found, wanted = (" x ".join(map(str, grid)) for grid in (header.shape, shape))
        raise SourceError(
            f"{source.join(path)}: a grid of {found} where the betas have {wanted}; "
            "take both from the same subject, space and release"
        )
    check_plausible(source, path, header)
    return path, header


def read_map(source: Source, paths: Sequence[str], space: str, *, shape: Sequence[int] | None = None) -> Volume:
    """Read a map of one file (a volume) or of two (the hemispheres of a surface, left then right).

    ``shape`` is (i, j, k) of a volume or the vertices (lh, rh) of a surface.
    """
    if not layout.is_surface(space):
        return read_volume(source, paths[0], shape=shape)
    sizes = _grids(paths, space, shape)
    parts = [read_volume(source, path, shape=size).values.ravel() for path, size in zip(paths, sizes, strict=True)]
    return Volume(np.concatenate(parts), None)


def _grids(paths: Sequence[str], space: str, shape: Sequence[int] | None) -> list[Sequence[int] | None]:
    """Grid of each file of a map: that of the volume, or of the vertices of each hemisphere."""
    if shape is None or not layout.is_surface(space):
        return [shape] * len(paths)
    return [(size, 1, 1) for size in shape]


def read_means(
    source: Source,
    paths: Sequence[str],
    space: str,
    spans: Sequence[tuple[int, int]],
    *,
    count: int,
    shape: Sequence[int] | None = None,
) -> list[NDArray[np.float64]]:
    """Means over spans of the volumes of a map's files, which are read once, with one volume in memory.

    Parameters
    ----------
    paths : sequence of str
        As for :func:`read_map`.
    spans : sequence of (int, int)
        First and last volume of each mean, from 0.
    count : int
        Volumes that each file must have.
    shape : sequence of int, optional
        As for :func:`read_map`.

    Returns
    -------
    list of numpy.ndarray
        Float64, (i, j, k) or (vertex,), one per span; NaN where a volume is NaN.

    Raises
    ------
    MissingDataError, SourceError
        As for :func:`read_volume`, or a file has another number of volumes.
    """
    parts: list[list[NDArray[np.float64]]] = []
    for path, size in zip(paths, _grids(paths, space, shape), strict=True):
        found, header = _fitting_header(source, path, size)
        if header.count != count:
            raise SourceError(
                f"{source.join(found)}: {header.count} volumes where the map has {count}; copy the published file"
            )
        totals = [np.zeros(int(np.prod(header.shape))) for _ in spans]
        for number, frame in enumerate(stream_frames(source, found, header=header)):
            for total, (first, last) in zip(totals, spans, strict=True):
                if first <= number <= last:
                    total += frame.astype(np.float64)
        for total, (first, last) in zip(totals, spans, strict=True):
            total /= last - first + 1
        parts.append([total.reshape(*reversed(header.shape)).T for total in totals])
    if not layout.is_surface(space):
        return parts[0]
    return [np.concatenate([half.ravel() for half in halves]) for halves in zip(*parts, strict=True)]


def read_ncsnr(source: Source, subject: str, *, space: str, betas: str, shape: Sequence[int] | None = None) -> Volume:
    """Noise ceiling SNR of a version of the betas, float32; NaN where a voxel was never valid."""
    return read_map(source, layout.statistic_paths(subject, space, betas, "ncsnr"), space, shape=shape)


def read_valid(
    source: Source, subject: str, session: int | str, *, space: str, shape: Sequence[int] | None = None
) -> Volume:
    """Whether each voxel has data in every volume of a session, bool."""
    volume = read_volume(source, layout.valid_path(subject, session, space), shape=shape)
    return Volume(volume.values > 0, volume.affine)


def read_brainmask(source: Source, subject: str, *, space: str, shape: Sequence[int] | None = None) -> Volume:
    """NSD's brain mask, which is deliberately liberal, bool."""
    volume = read_volume(source, layout.volume_path(subject, space, "brainmask"), shape=shape)
    return Volume(volume.values > 0, volume.affine)


def read_aseg(source: Source, subject: str, *, space: str, shape: Sequence[int] | None = None) -> Volume:
    """FreeSurfer's segmentation, int16, 0 outside the brain."""
    return read_volume(source, layout.volume_path(subject, space, "aseg"), shape=shape)
