"""Matrices that tasks exchange: Zarr arrays that are written and read by blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import zarr

from nsdflow.io.reach import writing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_matrix", "write_matrix"]

#: Rows per chunk. A chunk is read and written at once.
CHUNK_ROWS = 512


def write_matrix(url: str, values: Tensor) -> None:
    """Write a matrix, with one chunk of rows per file."""
    with writing(url):
        array = zarr.create_array(
            url,
            shape=tuple(values.shape),
            chunks=(min(CHUNK_ROWS, len(values)), values.shape[1]),
            dtype=str(values.dtype).split(".")[-1],
            fill_value=np.nan,
            compressors=None,
            overwrite=True,
        )
        for start in range(0, len(values), CHUNK_ROWS):
            array[start : start + CHUNK_ROWS] = values[start : start + CHUNK_ROWS].cpu().numpy()


def read_matrix(url: str) -> Tensor:
    """Read a matrix without a second copy in memory."""
    array = zarr.open_array(url, mode="r")
    values = torch.empty(array.shape, dtype=getattr(torch, str(array.dtype)))
    for start in range(0, array.shape[0], CHUNK_ROWS):
        values[start : start + CHUNK_ROWS] = torch.from_numpy(np.asarray(array[start : start + CHUNK_ROWS]))
    return values
