"""The voxels of an array: their subject, space and places in the grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.errors import StoreError
from nsdflow.nsd.source import Source, open_source
from nsdflow.nsd.spaces import GRIDS

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Place", "source_of", "surface_place"]


@dataclass(frozen=True)
class Place:
    """Space and positions of the voxels (vertices) of an array.

    Attributes
    ----------
    subject, space : str
        Subject and space.
    shape : tuple of int
        (i, j, k) of the volume; (left, right) numbers of vertices.
    flat_index : numpy.ndarray
        (voxel,) int64; C order in the volume, the left hemisphere's vertices first.
    """

    subject: str
    space: str
    shape: tuple[int, ...]
    flat_index: NDArray[np.int64]

    @property
    def is_surface(self) -> bool:
        """Whether the voxels are vertices."""
        return len(self.shape) == 2

    @property
    def size(self) -> int:
        """Voxels of the whole volume, vertices of both hemispheres."""
        return sum(self.shape) if self.is_surface else prod(self.shape)

    def spread(self, values: NDArray[Any], fill: float = np.nan) -> NDArray[Any]:
        """Values (..., voxel) on the whole grid (..., grid), ``fill`` elsewhere."""
        dtype = np.result_type(values.dtype, np.float32) if np.isnan(fill) else values.dtype
        whole = np.full((*values.shape[:-1], self.size), fill, dtype)
        whole[..., self.flat_index] = values
        return whole


def surface_place(array: xr.DataArray) -> Place:
    """The place of an array's voxels, from its coordinate ``flat_index`` and its attributes.

    Raises
    ------
    StoreError
        The array lacks a coordinate or attribute that locates its voxels.
    """
    name = array.name or "array"
    if "voxel" not in array.dims or "flat_index" not in array.coords:
        raise StoreError(f"{name}: no voxel dimension with the coordinate flat_index; keep it")
    known: dict[str, Any] = {**array["flat_index"].attrs, **array.attrs}
    shape = array["flat_index"].attrs.get("shape", known.get("shape"))
    if shape is None:
        raise StoreError(f"{name}: flat_index lacks its attribute shape; keep the attributes of coordinates")
    for key in ("subject", "space"):
        if key not in known:
            raise StoreError(
                f"{name}: no attribute {key!r}; keep attributes (xarray.set_options(keep_attrs=True)), or give it: "
                f".assign_attrs({key}={'subj01' if key == 'subject' else 'func1pt8mm'!r})"
            )
    if known["space"] not in GRIDS:
        raise StoreError(f"{name}: space {known['space']!r}, which has no transforms; available: {', '.join(GRIDS)}")
    sizes = tuple(int(size) for size in np.atleast_1d(shape))
    return Place(str(known["subject"]), str(known["space"]), sizes, array["flat_index"].values.astype(np.int64))


def source_of(array: xr.DataArray, source: str | Source | None) -> Source:
    """NSD's files: those given, or those from which the store was made.

    Raises
    ------
    StoreError
        Neither is known.
    """
    if isinstance(source, Source):
        return source
    index = array.coords.get("flat_index")
    known = source or array.attrs.get("source") or (None if index is None else index.attrs.get("source"))
    if not known:
        raise StoreError(
            f"{array.name or 'array'}: no attribute 'source'; give the folder or URL of NSD, which has the transforms "
            "and surfaces: source='/data/nsd'"
        )
    return open_source(str(known))
