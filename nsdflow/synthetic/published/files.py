"""Writers of NSD's file formats, byte for byte as the published files are: no more than each format needs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from nibabel.freesurfer.mghformat import MGHHeader

__all__ = ["open_mgh", "open_nifti", "write_ctab", "write_hdf5", "write_mat73", "write_mgh", "write_volume"]

Array = npt.NDArray[np.generic]

_GZIP_LEVEL = 1
_MGH_HEADER_BYTES = 284
_MGH_FOOTER = bytes(16)  # NSD's files end with four floats where nibabel would write five


@contextmanager
def open_nifti(
    path: Path,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    voxel_size: float,
    tr: float = 1.0,
    origin: tuple[float, ...] | None = None,
) -> Iterator[BinaryIO]:
    """A ``.nii.gz`` to write volumes to, in Fortran order, header already written.

    The header is the one of NSD's MATLAB code: NIfTI-1, little endian, no qform, an sform that puts the origin at the
    middle of the grid (or at the voxel ``origin``), and a slope and an intercept of zero, which mean "not scaled".
    """
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(np.dtype(dtype).newbyteorder("<"))
    header.set_data_shape(shape)
    header.set_zooms((voxel_size,) * 3 + (tr,) * (len(shape) - 3))
    header["pixdim"][4] = tr
    affine = np.diag([voxel_size] * 3 + [1.0])
    centre = (np.array(shape[:3]) - 1) / 2 if origin is None else np.array(origin)
    affine[:3, 3] = -centre * voxel_size
    header.set_sform(affine, code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    header["scl_slope"] = header["scl_inter"] = 0
    with _gzip(path) as stream:
        stream.write(header.binaryblock + bytes(4))
        yield stream


def write_volume(
    path: Path, values: Array, voxel_size: float, tr: float = 1.0, origin: tuple[float, ...] | None = None
) -> None:
    """A whole volume as ``.nii.gz``, in the type it has."""
    with open_nifti(path, values.shape, values.dtype, voxel_size, tr, origin) as stream:
        stream.write(np.asfortranarray(values).tobytes(order="F"))


@contextmanager
def open_mgh(path: Path, vertices: int, frames: int) -> Iterator[BinaryIO]:
    """A ``.mgh`` (or gzipped ``.mgz``) to write frames of big-endian float32 to."""
    header = MGHHeader()
    header.set_data_dtype(np.dtype(">f4"))
    header.set_data_shape((vertices, 1, 1, frames))
    start = io.BytesIO()
    header.writehdr_to(start)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _gzip(path) if path.suffix == ".mgz" else path.open("wb") as stream:
        stream.write(start.getvalue().ljust(_MGH_HEADER_BYTES, b"\0"))
        yield stream
        stream.write(_MGH_FOOTER)


def write_mgh(path: Path, values: Array) -> None:
    """One value per vertex, or (vertex, frame)."""
    with open_mgh(path, len(values), values.size // len(values)) as stream:
        stream.write(values.T.astype(">f4").tobytes())


def write_hdf5(path: Path, shape: tuple[int, ...], slabs: Iterable[Array]) -> None:
    """Betas as ``.hdf5``: int16 ``/betas`` (trial, ...), uncompressed, one chunk per voxel with all its trials.

    Parameters
    ----------
    shape : tuple of int
        (trial, k, j, i), or (trial, vertex).
    slabs : iterable of arrays
        The second axis in consecutive pieces (trial, piece, ...).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", libver="earliest") as file:
        chunk = (shape[0],) + (1,) * (len(shape) - 1)
        _fill(file.create_dataset("betas", shape=shape, dtype="<i2", chunks=chunk), slabs)


def write_mat73(path: Path, shape: tuple[int, ...], slabs: Iterable[Array]) -> None:
    """Betas as the early releases' ``.mat``: MAT v7.3, HDF5 behind 512 bytes of MATLAB's own; see `write_hdf5`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", libver="earliest", userblock_size=512) as file:
        dataset = file.create_dataset("betas", shape=shape, dtype="<i2")
        dataset.attrs["MATLAB_class"] = np.bytes_("int16")
        _fill(dataset, slabs)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def _fill(dataset: h5py.Dataset, slabs: Iterable[Array]) -> None:
    start = 0
    for slab in slabs:
        dataset[:, start : start + slab.shape[1]] = slab
        start += slab.shape[1]


def write_ctab(path: Path, labels: Iterable[str]) -> None:
    """A label table, with the stray tabs and blanks of the published ones."""
    lines = ["0 Unknown"] + [f"{number} {name}" for number, name in enumerate(labels, start=1)]
    stray = ("", "\t   ", " ", "\t")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}{stray[n % len(stray)]}\n" for n, line in enumerate(lines)))


@contextmanager
def _gzip(path: Path) -> Iterator[BinaryIO]:
    """A gzip stream without name and time in it: the same content gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as raw,
        igzip.IGzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=raw, mtime=0) as stream,
    ):
        yield cast(BinaryIO, stream)
