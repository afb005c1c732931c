"""Masks of annotated objects, lazily: run-length codes are read and decoded when a mask is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import dask.array as da
import numpy as np

from nsdflow.errors import MissingDataError
from nsdflow.nsd.annotations.masks import decode_rle, resize_mask
from nsdflow.store.chunks import read_region
from nsdflow.store.query.blocks import cut_rows
from nsdflow.store.shard_format import ShardedArray, open_sharded

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["add_masks"]

#: Masks of a lazy block hold about this many bytes.
MASK_BLOCK_BYTES: Final = 4 << 20


def add_masks(table: xr.Dataset, url: str, size: int) -> xr.Dataset:
    """Annotations with ``mask`` (instance, y, x) bool on Dask.

    Parameters
    ----------
    table : Dataset
        Result of :func:`nsdflow.store.annotations.read_annotations`.
    url : str
        Group of the annotations.
    size : int
        Pixels per side.

    Raises
    ------
    MissingDataError
        The store has no masks.
    """
    if "mask_end" not in table:
        raise MissingDataError(f"{url}: annotations without masks; remove this folder and ingest with --annotations")
    ends = table["mask_end"].values
    known = np.column_stack([np.concatenate([[0], ends])[: len(ends)], ends, table["mask_size"].values])
    sizes = cut_rows(len(ends), max(1, MASK_BLOCK_BYTES // size**2))
    masks = da.map_blocks(
        _read_masks,
        da.from_array(known[:, :, None], chunks=(sizes, 4, 1)),
        codes=open_sharded(f"{url}/mask_code") if len(ends) else None,
        size=size,
        chunks=(sizes, size, size),
        dtype=bool,
        meta=np.empty((0, 0, 0), bool),
    )
    edges = {"y": ("y", np.arange(size)[::-1]), "x": ("x", np.arange(size))}
    long_name = "pixels of the image that the instance covers"
    return table.assign(mask=(("instance", "y", "x"), masks, {"long_name": long_name})).assign_coords(edges)


def _read_masks(known: NDArray[np.int64], *, codes: ShardedArray, size: int, **_: Any) -> NDArray[np.bool_]:
    """Masks of instances of which start, end, height and width are known (instance, 4, 1)."""
    masks = np.zeros((len(known), size, size), bool)
    if not len(known):
        return masks
    first, last = int(known[:, 0].min()), int(known[:, 1].max())
    data = read_region(codes, (np.arange(first, last),)).tobytes()
    for mask, (start, end, height, width) in zip(masks, known[:, :, 0].tolist(), strict=True):
        mask[...] = resize_mask(decode_rle(data[start - first : end - first], height, width), size)
    return masks
