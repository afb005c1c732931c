"""Single-trial betas of one session, from any format of NSD.

Everything is int16, percent signal change times 300, except in ``fsaverage`` (float32, percent signal change).
Files are read once, block by block: one trial, or the trials of some voxels, is in memory in addition to the result. A
"voxel" of a surface is a vertex, counted first through the left hemisphere, then the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nsdflow.errors import MissingDataError, SelectionError, SourceError, one_of
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE
from nsdflow.nsd import layout
from nsdflow.nsd.formats.frames import read_header, stream_frames
from nsdflow.nsd.formats.hdf5 import iter_voxels
from nsdflow.nsd.source import Source

__all__ = [
    "BetaBlock",
    "SessionHeader",
    "is_saturated",
    "iter_session",
    "read_session",
    "read_session_header",
    "session_statistics",
    "statistics_scratch",
    "stream_session",
]


_STATISTICS_BLOCK: Final = 1024


@dataclass(frozen=True)
class SessionHeader:
    """Content of the files of a session, from their headers only.

    Attributes
    ----------
    shape : tuple of int
        (i, j, k) of a volume; vertices (lh, rh) of a surface.
    trials : int
    dtype : str
        ``"int16"`` or (fsaverage) ``"float32"``.
    affine : tuple of 4 tuples of 4 float, or None
        Voxel indices to mm, if the format has it.
    format : str
        Ending of the files, one of :data:`nsdflow.nsd.layout.BETAS_FORMATS`.
    paths : tuple of str
        One file (volumes) or two (surfaces).
    """

    shape: tuple[int, ...]
    trials: int
    dtype: str
    affine: tuple[tuple[float, ...], ...] | None
    format: str
    paths: tuple[str, ...]

    @property
    def voxels(self) -> int:
        """Voxels of the whole grid (vertices of both hemispheres)."""
        return sum(self.shape) if len(self.shape) == 2 else int(np.prod(self.shape))


def read_session_header(
    source: Source,
    subject: str,
    session: int | str,
    *,
    space: str = DEFAULT_SPACE,
    betas: str = DEFAULT_BETAS,
    expected: tuple[Sequence[int], int] | None = None,
    format: str | None = None,
) -> SessionHeader:
    """Shape, trials and format of a session; ``format=None`` takes the best that exists.

    Parameters
    ----------
    expected : (shape, trials), optional
        Required content of the files: (i, j, k), or vertices (lh, rh), and the number of trials.

    Raises
    ------
    SelectionError
        No such space, version or format; the message lists those that exist.
    MissingDataError
        The session does not exist or is not public.
    SourceError
        Not readable, or not as ``expected``.
    """
    chosen = _choose_format(source, subject, session, space, betas, format)
    paths = layout.betas_paths(subject, session, space, betas, chosen)
    parts = [_part_header(source, path) for path in paths]
    shapes, counts, dtypes, affines = zip(*parts, strict=True)
    if len(set(counts)) > 1:
        raise SourceError(
            f"{source.join(paths[1])}: {counts[1]} trials where the left hemisphere has {counts[0]}; fetch both again"
        )
    wanted = np.dtype(np.float32 if space == "fsaverage" else np.int16)
    if dtypes[0] != wanted:
        raise SourceError(f"{source.join(paths[0])}: {dtypes[0]} values where NSD has {wanted}; fetch it again")
    surface = layout.is_surface(space)
    shape = tuple(int(np.prod(part)) for part in shapes) if surface else shapes[0]
    header = SessionHeader(shape, counts[0], wanted.name, None if surface else affines[0], chosen, paths)
    if expected is not None:
        _check_expected(source, header, expected)
    return header


def read_session(
    source: Source,
    subject: str,
    session: int | str,
    voxels: ArrayLike | None = None,
    *,
    space: str = DEFAULT_SPACE,
    betas: str = DEFAULT_BETAS,
    expected: tuple[Sequence[int], int] | None = None,
    format: str | None = None,
) -> NDArray[Any]:
    """Betas of a session at some voxels, exactly as published.

    Parameters
    ----------
    source : Source
    session : int
        1-based; the name in files of a sister experiment, such as ``"nsdsynthetic"``.
    voxels : array of int, optional
        Flat C-order indices into the volume (vertices: left hemisphere, then right), in any order; all when None.
    space, betas : str
    expected : (shape, trials), optional
        Required content of the files: (i, j, k), or vertices (lh, rh), and the number of trials.
    format : str, optional
        One of :data:`nsdflow.nsd.layout.BETAS_FORMATS`; the best that exists when None.

    Returns
    -------
    array, shape (trial, voxel)
        Int16, percent signal change times 300; float32 in percent signal change for fsaverage. Columns are in the order
        of ``voxels``, rows in the order of presentation.

    Raises
    ------
    MissingDataError
        The session does not exist or is not public.
    SourceError
        Truncated, corrupt (gzip's CRC is checked), or not as ``expected``.
    """
    header = read_session_header(source, subject, session, space=space, betas=betas, expected=expected, format=format)
    chosen = _checked_voxels(voxels, header)
    out = np.empty((header.trials, len(chosen)), header.dtype)
    for block in iter_session(source, header, chosen):
        out[block.trials, block.columns] = block.values
    return out


@dataclass(frozen=True)
class BetaBlock:
    """A part of a session's betas, of a shape that suits the format of its file.

    Attributes
    ----------
    trials : int or slice
        One trial, or several.
    columns : slice or array of int
        Positions among the requested voxels; ``slice(None)`` for all.
    values : array
        (column,) of one trial, (trial, column) of several. The next block may overwrite it.
    """

    trials: int | slice
    columns: slice | NDArray[np.intp]
    values: NDArray[Any]


def iter_session(source: Source, header: SessionHeader, voxels: ArrayLike | None = None) -> Iterator[BetaBlock]:
    """Betas as :func:`read_session` returns them, in blocks that cover them once: by trial, or by voxel."""
    for path, index, columns in _parts(header, _checked_voxels(voxels, header)):
        if path.endswith((".hdf5", ".mat")):
            with source.open_hdf5(path, "betas") as dataset:
                for trials, places, values in iter_voxels(dataset, index):
                    yield BetaBlock(trials, places if isinstance(columns, slice) else columns[places], values)
        else:
            yield from _stream(source, path, index, columns)


def stream_session(
    source: Source,
    subject: str,
    session: int | str,
    *,
    space: str = DEFAULT_SPACE,
    betas: str = DEFAULT_BETAS,
    format: str | None = None,
) -> Iterator[NDArray[Any]]:
    """The volumes (i, j, k) of a session, trial by trial, from a NIfTI file read once.

    The volumes are read-only.
    """
    header = read_session_header(source, subject, session, space=space, betas=betas, format=format)
    if header.format not in ("nii.gz", "nii"):
        raise SelectionError(
            f"{source.join(header.paths[0])}: only NIfTI files are stored volume by volume; use read_session"
        )
    for frame in stream_frames(source, header.paths[0]):
        yield frame.reshape(header.shape, order="F")


def session_statistics(
    betas: NDArray[Any], scale: float = 1.0, scratch: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    r"""Mean and standard deviation (ddof 0) over the trials of a session, the published z-score's statistics.

    Sums of int16 and of their squares are exact in float64 (:math:`750 \cdot 2^{30} < 2^{53}`), and so is the
    difference :math:`n \sum x^2 - (\sum x)^2`; float32 input is centred first. Goes through the voxels in blocks
    that fit into the processor's cache.

    Parameters
    ----------
    betas : array, shape (trial, voxel)
        Type int16 or float32.
    scale : float
        Multiplies the result: 1/300 turns int16 betas into percent signal change.
    scratch : array of float64, optional
        Memory for the widened betas of a block, (trial, 1024 or all voxels), for callers with many arrays: fresh memory
        for each takes as long as the sums.

    Returns
    -------
    mean : array, shape (voxel,)
        Mean over trials, float32.
    std : array, shape (voxel,)
        Standard deviation over trials, float32.
    """
    mean, std = (np.empty(betas.shape[1], np.float32) for _ in range(2))
    if scratch is None:
        scratch = statistics_scratch(betas.shape)
    for start in range(0, betas.shape[1], _STATISTICS_BLOCK):
        block = slice(start, start + _STATISTICS_BLOCK)
        values = scratch[:, : len(mean[block])]
        values[:] = betas[:, block]
        mean[block], std[block] = _moments(values, betas.dtype.kind == "i", scale)
    return mean, std


def statistics_scratch(shape: Sequence[int]) -> NDArray[np.float64]:
    """Scratch memory of :func:`session_statistics` for arrays of (trial, voxel), or with fewer voxels.

    >>> statistics_scratch((750, 2000)).shape
    (750, 1024)
    """
    return np.empty((shape[0], min(_STATISTICS_BLOCK, shape[1])))


def _moments(values: NDArray[np.float64], exact: bool, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = len(values)
    shift = np.zeros(values.shape[1]) if exact else values.mean(axis=0)
    if not exact:
        values -= shift
    total = np.ones(count) @ values if exact else values.sum(axis=0)  # exact in any order, so in the faster one
    squares = np.einsum("tv,tv->v", values, values)
    variance = np.maximum(count * squares - total**2, 0.0) / count**2
    return (shift + total / count) * scale, np.sqrt(variance) * scale


def is_saturated(
    betas: NDArray[Any], mean: NDArray[np.float32], std: NDArray[np.float32], scale: float = 1.0
) -> NDArray[np.bool_]:
    r"""Voxels with a beta at the limits of int16: the response was beyond them, some 109 percent signal change.

    A value at distance d from the mean of n makes the standard deviation at least :math:`d / \sqrt{n}`, so only the
    few voxels whose statistics allow it are looked at. Float betas do not saturate.

    Parameters
    ----------
    betas : array, shape (trial, voxel)
        As published.
    mean, std : arrays, shape (voxel,)
        Results of :func:`session_statistics` for them with the same ``scale``.
    """
    found = np.zeros(betas.shape[1], bool)
    if betas.dtype.kind == "i":
        limits = np.iinfo(betas.dtype)
        nearest = scale * limits.max - np.abs(mean)
        (candidates,) = np.nonzero(std * np.sqrt(len(betas)) >= 0.999 * nearest)  # float32 rounds
        suspects = betas[:, candidates]
        found[candidates] = ((suspects == limits.min) | (suspects == limits.max)).any(axis=0)
    return found


def _choose_format(source: Source, subject: str, session: int | str, space: str, betas: str, format: str | None) -> str:
    layout.is_surface(space)  # an unknown space is an error before any file is read
    formats = layout.BETAS_FORMATS[space]
    if format is not None and format not in formats:
        raise one_of(f"format of {space} betas", format, formats)
    for candidate in formats if format is None else (format,):
        paths = layout.betas_paths(subject, session, space, betas, candidate)
        if all(source.exists(path) for path in paths):
            return candidate
    _explain_missing(source, subject, space, betas)
    wanted = layout.betas_paths(subject, session, space, betas, format or formats[0])[0]
    there = layout.sessions_of(source.listdir(layout.betas_folder(subject, space, betas)), space)
    raise MissingDataError(
        f"{source.join(wanted)}: no such session, or not public; sessions listed: "
        f"{', '.join(str(number) for number in there) or 'none'}"
    )


def _explain_missing(source: Source, subject: str, space: str, betas: str) -> None:
    """Raise for the first part of the path that does not exist, listing the names in its place."""
    folder = "nsddata_betas/ppdata"
    for kind, name in (("subject", subject), ("space", space), ("betas version", betas)):
        there = source.listdir(folder)
        if name not in there:
            raise one_of(f"{kind} in {source.join(folder)}", name, there)
        folder = f"{folder}/{name}"


def _part_header(source: Source, path: str) -> tuple[tuple[int, ...], int, np.dtype[Any], Any]:
    """(shape, trials, dtype, affine) of one file."""
    if not path.endswith((".hdf5", ".mat")):
        header = read_header(source, path)
        return header.shape, header.count, header.dtype.newbyteorder("="), header.affine
    with source.open_hdf5(path, "betas") as dataset:
        trials, *reversed_shape = dataset.shape
        return tuple(reversed(reversed_shape)), int(trials), dataset.dtype.newbyteorder("="), None


def _check_expected(source: Source, header: SessionHeader, expected: tuple[Sequence[int], int]) -> None:
    shape, trials = tuple(expected[0]), expected[1]
    where = source.join(header.paths[0])
    if header.shape != shape:
        raise SourceError(
            f"{where}: {_times(header.shape)} where the subject's other files have {_times(shape)}; "
            "check that subject, space and release agree"
        )
    if header.trials != trials:
        raise SourceError(f"{where}: {header.trials} trials where the design has {trials}; fetch it again")


def _checked_voxels(voxels: ArrayLike | None, header: SessionHeader) -> NDArray[np.intp]:
    if voxels is None:
        return np.arange(header.voxels)
    chosen = np.asarray(voxels, dtype=np.intp).ravel()
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < header.voxels:
        raise SelectionError(
            f"voxel index {chosen.max() if chosen.min() >= 0 else chosen.min()}: "
            f"a grid of {_times(header.shape)} has 0 to {header.voxels - 1}"
        )
    return chosen


def _parts(
    header: SessionHeader, chosen: NDArray[np.intp]
) -> Iterator[tuple[str, NDArray[np.intp], slice | NDArray[np.intp]]]:
    """For each file: its path, the voxels to take from it (Fortran order), and which of all those asked they are.

    HDF5 has the axes reversed: Fortran order of a volume is C order of the dataset.
    """
    if len(header.shape) == 3:
        index = np.ravel_multi_index(np.unravel_index(chosen, header.shape), header.shape, order="F")
        yield header.paths[0], index, slice(None)
        return
    left = header.shape[0]
    for path, columns, first in zip(
        header.paths, (np.flatnonzero(chosen < left), np.flatnonzero(chosen >= left)), (0, left), strict=True
    ):
        yield path, chosen[columns] - first, columns


def _stream(
    source: Source, path: str, index: NDArray[np.intp], columns: slice | NDArray[np.intp]
) -> Iterator[BetaBlock]:
    """A NIfTI or MGH file, trial by trial."""
    values: NDArray[Any] | None = None
    for trial, frame in enumerate(stream_frames(source, path)):
        if frame.dtype.isnative:
            values = np.empty(len(index), frame.dtype) if values is None else values
            np.take(frame, index, out=values, mode="clip")  # in range already; "raise" would copy twice
        else:
            values = frame[index]
        yield BetaBlock(trial, columns, values)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)
