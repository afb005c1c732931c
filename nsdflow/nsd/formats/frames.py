"""Volumes in a file, one after the other: NIfTI-1 and MGH, gzipped or not, read once from front to back.

Both formats keep their first axis fastest and their last (trials) slowest, so a forward pass meets whole volumes,
one trial at a time; a gzipped file can be read no other way without starting over.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import nibabel as nib
import numpy as np
from isal import isal_zlib
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from nsdflow.errors import SourceError
from nsdflow.nsd.source import GZIPPED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["FrameHeader", "read_header", "stream_frames"]

#: Enough of a gzipped file to decompress any header of NSD from.
_HEAD_BYTES: Final = 64 << 10
_NIFTI_BYTES: Final = 348
_MGH_BYTES: Final = 284


@dataclass(frozen=True)
class FrameHeader:
    """What the header of a NIfTI-1 or MGH file says.

    Attributes
    ----------
    shape : tuple of int
        Of one frame, (i, j, k).
    count : int
        Frames: trials of a session, 1 for a single volume.
    dtype : numpy.dtype
        As stored, with its byte order.
    offset : int
        Bytes before the first frame.
    affine : tuple of 4 tuples of 4 float
        Voxel indices to mm.
    footer : bool
        Whether the format lets something follow the last frame (MGH: TR, flip angle, ..., tags).
    """

    shape: tuple[int, int, int]
    count: int
    dtype: np.dtype[np.generic]
    offset: int
    affine: tuple[tuple[float, ...], ...]
    footer: bool


def read_header(source: Source, path: str) -> FrameHeader:
    """The header alone, from the first bytes of the file.

    Raises
    ------
    SourceError
        Not a NIfTI-1 or MGH file.
    """
    head = source.head(path, _HEAD_BYTES)
    with source.reading(path):
        if path.endswith(GZIPPED):
            head = isal_zlib.decompressobj(wbits=31).decompress(head, _HEAD_BYTES)
        return _parse(io.BytesIO(head), path, source.join(path))


def stream_frames(source: Source, path: str, *, header: FrameHeader | None = None) -> Iterator[NDArray[np.generic]]:
    """Each frame in turn, flat in Fortran order (first axis fastest), as stored.

    Reads to the end of the file, which checks the CRC of a gzipped one. The array is a buffer that the next frame
    overwrites: copy what should stay.

    Parameters
    ----------
    header : FrameHeader, optional
        What the file must be; another header is an error.

    Raises
    ------
    SourceError
        Truncated, corrupt, longer than its header says, or another header than asked for.
    """
    url = source.join(path)
    with source.open_stream(path) as stream:
        found = _parse(stream, path, url)
        if header is not None and found != header:
            raise SourceError(f"{url}: the file changed while it was read; run again")
        frame = np.empty(int(np.prod(found.shape)), found.dtype)
        view = frame.view(np.uint8).data
        for number in range(found.count):
            if _fill(stream, view) < len(view):
                raise SourceError(
                    f"{url}: truncated: {number} whole volumes where its header says {found.count}; fetch it again"
                )
            yield frame
        extra = _drain(stream)
        if extra and not found.footer:
            raise SourceError(
                f"{url}: {extra} bytes follow the {found.count} volumes that its header announces; fetch it again"
            )


def _parse(stream: BinaryIO, path: str, url: str) -> FrameHeader:
    """Read the header and leave the stream at the first frame."""
    try:
        parsed = _parse_mgh(stream) if ".mg" in path[-4:] else _parse_nifti(stream)
    except (WrapStructError, HeaderDataError, ValueError, KeyError) as error:
        raise SourceError(f"{url}: not a readable NIfTI-1 or MGH file ({error}); fetch it again") from error
    return parsed


def _parse_nifti(stream: BinaryIO) -> FrameHeader:
    block = stream.read(_NIFTI_BYTES)
    if len(block) < _NIFTI_BYTES:
        raise EOFError
    header = nib.Nifti1Header(block, check=False)  # nibabel's own check also logs
    if header["magic"] != b"n+1":
        raise ValueError("no n+1 magic")
    slope, inter = header.get_slope_inter()
    if (slope, inter) not in ((None, None), (1.0, 0.0)):
        raise ValueError(f"scaled by {slope} + {inter}, which NSD's files never are")
    shape = header.get_data_shape()
    offset = int(header["vox_offset"])
    if offset < _NIFTI_BYTES:
        raise ValueError(f"data from byte {offset} on")
    stream.read(offset - _NIFTI_BYTES)
    return _header(shape, header.get_data_dtype(), offset, header.get_best_affine(), footer=False)


def _parse_mgh(stream: BinaryIO) -> FrameHeader:
    block = stream.read(_MGH_BYTES)
    if len(block) < _MGH_BYTES:
        raise EOFError
    header = nib.freesurfer.mghformat.MGHHeader.from_fileobj(io.BytesIO(block))
    return _header(header.get_data_shape(), header.get_data_dtype(), _MGH_BYTES, header.get_affine(), footer=True)


def _header(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], offset: int, affine: NDArray[np.float64], footer: bool
) -> FrameHeader:
    i, j, k, *counts = (*(int(size) for size in shape), *(1,) * (3 - len(shape)))
    count = int(np.prod(counts, dtype=int))
    if min(i, j, k, count) < 1:
        raise ValueError(f"shape {tuple(shape)}")
    rows = tuple(tuple(float(value) for value in row) for row in affine)
    return FrameHeader((i, j, k), count, np.dtype(dtype), offset, rows, footer)


def _fill(stream: BinaryIO, view: memoryview) -> int:
    """Read until the buffer is full or the stream ends; the bytes read."""
    done = 0
    while done < len(view):
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            break
        done += count
    return done


def _drain(stream: BinaryIO) -> int:
    """Read what is left (with it, gzip's checks); the bytes read."""
    extra = 0
    while block := stream.read(1 << 20):
        extra += len(block)
    return extra
