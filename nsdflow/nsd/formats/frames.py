"""Volumes in a file, one after the other: NIfTI-1 and MGH, gzipped or not, read once from front to back.

Both formats keep their first axis fastest and their last (trials) slowest, so a forward pass meets whole volumes, one
trial at a time. A gzipped file can only be read from its start.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import nibabel as nib
import numpy as np
from isal import isal_zlib
from nibabel.freesurfer.mghformat import MGHError
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from nsdflow.errors import SourceError
from nsdflow.nsd.source import Source, is_gzipped

__all__ = ["FrameHeader", "check_length", "check_plausible", "read_header", "stream_frames"]

#: Enough of a gzipped file to decompress any header of NSD from.
_HEAD_BYTES: Final = 64 << 10
_NIFTI_BYTES: Final = 348
_MGH_BYTES: Final = 284
#: Largest number of bytes before the values of a NIfTI file: its header and extensions.
_LARGEST_OFFSET: Final = 16 << 20
#: Largest size of MGH's footer: scan parameters and tags.
_FOOTER_BYTES: Final = 1 << 20
#: Largest compression factor of deflate; a header that announces more is wrong.
_DEFLATE_RATIO: Final = 1100
#: Largest deviation of the length of a quaternion from one that counts as rounding.
_QUATERNION_SLACK: Final = 1e-2


@dataclass(frozen=True)
class FrameHeader:
    """Content of the header of a NIfTI-1 or MGH file.

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
    affine : tuple of 4 tuples of 4 float, or None
        Voxel indices to mm; None where the header has no invertible affine.
    footer : bool
        Whether more bytes may follow the last frame (MGH: TR, flip angle, ..., tags).
    """

    shape: tuple[int, int, int]
    count: int
    dtype: np.dtype[np.generic]
    offset: int
    affine: tuple[tuple[float, ...], ...] | None
    footer: bool

    @property
    def bytes(self) -> int:
        """Bytes of all frames, decompressed."""
        return self.count * math.prod(self.shape) * self.dtype.itemsize


def read_header(source: Source, path: str) -> FrameHeader:
    """Read only the header, from the first bytes of the file.

    Raises
    ------
    SourceError
        Not a NIfTI-1 or MGH file.
    """
    head = source.head(path, _HEAD_BYTES)
    with source.reading(path):
        if is_gzipped(path, head):
            head = isal_zlib.decompressobj(wbits=31).decompress(head, _HEAD_BYTES)
        return _parse(io.BytesIO(head), path, source.join(path))


def check_length(source: Source, path: str, header: FrameHeader) -> str | None:
    """Whether a file can hold the frames that its header announces, from its size and its last bytes.

    A gzipped file ends with its length modulo 2**32; files of several members (``bgzip``) end otherwise, so that a
    difference is no proof of damage.

    Returns
    -------
    str or None
        A phrase; None if the file seems complete.
    """
    gzipped = is_gzipped(path, source.head(path, 2))
    size = source.size(path)
    expected = header.offset + header.bytes
    if gzipped:
        stated = int.from_bytes(source.tail(path, 4), "little")
        slack = _FOOTER_BYTES if header.footer else 0
        if not 0 <= (stated - expected) % (1 << 32) <= slack:
            return "is truncated or damaged (its last bytes do not give its length)"
        return None
    return None if size >= expected else f"is truncated ({size:,} bytes where its header says {expected:,})"


def check_plausible(source: Source, path: str, header: FrameHeader) -> None:
    """Refuse a header that announces more than the file can hold, before memory is allocated for it.

    Raises
    ------
    SourceError
        With the bytes that the header announces.
    """
    if header.bytes > _DEFLATE_RATIO * max(source.size(path), 1):
        raise SourceError(
            f"{source.join(path)}: its header announces {header.bytes:,} bytes, more than the file can hold; "
            "fetch it again"
        )


def stream_frames(source: Source, path: str, *, header: FrameHeader | None = None) -> Iterator[NDArray[np.generic]]:
    """Each frame in turn, flat in Fortran order (first axis fastest), as stored.

    Reads to the end of the file, which checks the CRC of a gzipped one.

    Parameters
    ----------
    header : FrameHeader, optional
        The header that the file must have.

    Yields
    ------
    frame : numpy.ndarray
        (i * j * k,) in the type of the file; cannot be written to.

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
        check_plausible(source, path, found)
        size = math.prod(found.shape) * found.dtype.itemsize
        for number in range(found.count):
            data = stream.read(size)  # readinto of Python's gzip calls read, and copies
            if len(data) < size:
                raise SourceError(
                    f"{url}: truncated: {number} whole volumes where its header says {found.count}; fetch it again"
                )
            yield np.frombuffer(data, found.dtype)
        extra = _drain(stream)
        if extra > (_FOOTER_BYTES if found.footer else 0):
            many = f"more than {_FOOTER_BYTES:,}" if extra > _FOOTER_BYTES else f"{extra}"
            raise SourceError(
                f"{url}: {many} bytes follow the {found.count} volumes that its header announces; fetch it again"
            )


def _parse(stream: BinaryIO, path: str, url: str) -> FrameHeader:
    """Read the header and leave the stream at the first frame."""
    try:
        parsed = _parse_mgh(stream) if ".mg" in path[-4:] else _parse_nifti(stream)
    except (WrapStructError, HeaderDataError, MGHError, ValueError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{url}: not a readable NIfTI-1 or MGH file ({reason}); fetch it again") from error
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
    if not _NIFTI_BYTES <= offset <= _LARGEST_OFFSET:
        raise ValueError(f"data from byte {offset} on")
    stream.read(offset - _NIFTI_BYTES)
    return _header(shape, header.get_data_dtype(), offset, _nifti_affine(header), footer=False)


def _nifti_affine(header: nib.Nifti1Header) -> NDArray[np.float64] | None:
    """sform before qform, as nibabel; a quaternion that is longer than one by rounding is shortened."""
    try:
        return np.asarray(header.get_best_affine(), np.float64)
    except (ValueError, HeaderDataError):
        b, c, d = (float(header[f"quatern_{axis}"]) for axis in "bcd")
        length = math.sqrt(b * b + c * c + d * d)
        if not 1 <= length <= 1 + _QUATERNION_SLACK:
            return None
        affine = np.eye(4)
        zooms = np.array(header["pixdim"][1:4], np.float64) * (1, 1, -1 if header["pixdim"][0] == -1 else 1)
        affine[:3, :3] = quat2mat([0.0, b / length, c / length, d / length]) * zooms
        affine[:3, 3] = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
        return affine


def _parse_mgh(stream: BinaryIO) -> FrameHeader:
    block = stream.read(_MGH_BYTES)
    if len(block) < _MGH_BYTES:
        raise EOFError
    header = nib.freesurfer.mghformat.MGHHeader.from_fileobj(io.BytesIO(block))
    return _header(header.get_data_shape(), header.get_data_dtype(), _MGH_BYTES, header.get_affine(), footer=True)


def _header(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], offset: int, affine: NDArray[np.float64] | None, footer: bool
) -> FrameHeader:
    i, j, k, *counts = (*(int(size) for size in shape), *(1,) * (3 - len(shape)))
    count = int(np.prod(counts, dtype=int))
    if min(i, j, k, count) < 1:
        raise ValueError(f"shape {tuple(shape)}")
    if np.dtype(dtype).kind not in "iuf":
        raise ValueError(f"values of type {np.dtype(dtype)}")
    if affine is not None and not (np.isfinite(affine).all() and abs(np.linalg.det(affine)) > 1e-12):
        affine = None  # all zeros, or of a plane: not invertible
    rows = None if affine is None else tuple(tuple(float(value) for value in row) for row in affine)
    return FrameHeader((i, j, k), count, np.dtype(dtype), offset, rows, footer)


def _drain(stream: BinaryIO) -> int:
    """Read the rest, with which gzip checks its CRC; the bytes read, at most a little more than a footer has."""
    extra = 0
    while extra <= _FOOTER_BYTES and (block := stream.read(1 << 20)):
        extra += len(block)
    return extra
