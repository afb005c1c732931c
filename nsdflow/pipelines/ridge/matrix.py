"""Square matrices and weights that tasks exchange: Zarr arrays that are written and read by blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import zarr

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["create_matrix", "read_matrix", "write_matrix", "write_rows"]

#: Rows per chunk. A chunk is read and written at once.
CHUNK_ROWS = 512


def write_matrix(url: str, values: Tensor) -> None:
    """Write a matrix, with one chunk of rows per file."""
    array = create_matrix(url, tuple(values.shape), (CHUNK_ROWS, values.shape[1]), str(values.dtype).split(".")[-1])
    for start in range(0, len(values), CHUNK_ROWS):
        array[start : start + CHUNK_ROWS] = values[start : start + CHUNK_ROWS].numpy()


def create_matrix(url: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> zarr.Array[Any]:
    """Create an array without values, in place of an earlier one."""
    chunks = tuple(max(1, min(chunk, size)) for chunk, size in zip(chunks, shape, strict=True))
    return zarr.create_array(
        url, shape=shape, chunks=chunks, dtype=dtype, fill_value=np.nan, compressors=None, overwrite=True
    )


def read_matrix(url: str) -> Tensor:
    """Read a matrix without a second copy in memory."""
    array = zarr.open_array(url, mode="r")
    values = torch.empty(array.shape, dtype=getattr(torch, str(array.dtype)))
    for start in range(0, array.shape[0], CHUNK_ROWS):
        values[start : start + CHUNK_ROWS] = torch.from_numpy(np.asarray(array[start : start + CHUNK_ROWS]))
    return values


def write_rows(url: str, rows: slice, columns: slice, values: Tensor) -> None:
    """Write a block that consists of whole chunks."""
    zarr.open_array(url, mode="r+")[rows, columns] = values.numpy()
