"""Order and coordinates of voxels. Neighbours in an ROI are neighbours in the store."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nsdflow.errors import SelectionError
from nsdflow.names import ROI_LABELS, atlas_coordinate
from nsdflow.nsd.voxels.reserved_names import atlas_trouble
from nsdflow.store.schema import HEMISPHERE_CODES

__all__ = ["flag_attributes", "labels_of", "morton_code", "positions_of", "voxel_order", "voxel_table"]

Labels = Mapping[int, str]


def morton_code(ijk: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Interleave the bits of coordinates (voxel, axis), so that near codes are near in space.

    >>> morton_code(np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]])).tolist()
    [0, 1, 2, 4, 7]
    """
    ijk = np.asarray(ijk, np.int64)
    axes = ijk.shape[1]
    code = np.zeros(len(ijk), np.int64)
    for bit in range(int(ijk.max(initial=0)).bit_length()):
        for axis in range(axes):
            code |= ((ijk[:, axis] >> bit) & 1) << (bit * axes + axes - 1 - axis)
    return code


def positions_of(
    flat_index: NDArray[np.integer[Any]], there: NDArray[np.integer[Any]], subject: str
) -> NDArray[np.intp]:
    """Positions of the voxels of a run among others, by ``flat_index``.

    Raises
    ------
    SelectionError
        A voxel is missing.
    """
    positions = np.asarray(pd.Index(there).get_indexer(pd.Index(flat_index)), np.intp)
    if (missing := positions < 0).any():
        raise SelectionError(
            f"{subject}: {missing.sum()} of {len(missing)} voxels are not there, the first with flat_index "
            f"{flat_index[missing][0]}; use the store on which the run was made"
        )
    return positions


def voxel_order(
    flat_index: NDArray[np.int64],
    shape: tuple[int, ...],
    roi: NDArray[np.integer[Any]],
    general: NDArray[np.bool_] | None = None,
) -> NDArray[np.intp]:
    """Positions of the voxels in the order of the store.

    First the visual areas by label (V1v, V1d, V2v, ..., so that groups such as V1 or IPS are contiguous), then other
    cortex, then the rest; in both, voxels of nsdgeneral come first. Within each, along a Morton curve (a volume) or by
    vertex (a surface), so that smaller ROIs of other atlases are few stretches as well.

    Parameters
    ----------
    flat_index : (voxel,) int
        Indices into the volume, C order.
    shape : tuple of int
        Of the volume; one number for a surface.
    roi : (voxel,) int
        Label of the joined visual ROI: from 1 on a visual area, 0 other cortex, -1 not cortex.
    general : (voxel,) bool, optional
        In nsdgeneral.
    """
    last = max(int(np.max(roi, initial=0)), max(ROI_LABELS)) + 1
    area = np.where(roi > 0, roi, np.where(roi == 0, last, last + 1))
    inside = np.zeros(len(roi), bool) if general is None else np.asarray(general, bool)
    outside = np.where(roi > 0, False, ~inside)
    curve = flat_index if len(shape) < 3 else morton_code(np.stack(np.unravel_index(flat_index, shape), axis=1))
    return np.lexsort((flat_index, curve, area, outside))


def flag_attributes(labels: Labels) -> dict[str, Any]:
    """CF attributes that name the values of a label coordinate; blanks in names become underscores.

    >>> flag_attributes({1: "FFA-1", 0: "Unknown"})
    {'flag_values': [0, 1], 'flag_meanings': 'Unknown FFA-1'}
    """
    values = sorted(labels)
    return {"flag_values": values, "flag_meanings": " ".join("_".join(labels[value].split()) for value in values)}


def labels_of(attributes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The reverse of :func:`flag_attributes`: values by name, several where a name occurs more than once.

    >>> labels_of({"flag_values": [0, 1, 2], "flag_meanings": "Unknown FFA-1 FFA-1"})
    {'Unknown': (0,), 'FFA-1': (1, 2)}
    """
    values = np.atleast_1d(attributes.get("flag_values", ())).tolist()
    labels: dict[str, tuple[int, ...]] = {}
    for name, value in zip(str(attributes.get("flag_meanings", "")).split(), values, strict=True):
        labels[name] = (*labels.get(name, ()), value)
    return labels


def _free_name(name: str, taken: Container[str]) -> str:
    """A name that is neither reserved nor taken: ``ncsnr -> atlas_ncsnr``."""
    name = "_".join(name.split())
    while atlas_trouble(name) is not None or name in taken:
        name = f"atlas_{name}"
    return name


def voxel_table(
    flat_index: NDArray[np.integer[Any]],
    shape: tuple[int, ...],
    *,
    roi: NDArray[np.integer[Any]],
    atlases: Mapping[str, tuple[NDArray[Any], Labels]] | None = None,
    ncsnr: NDArray[np.floating[Any]] | None = None,
    affine: ArrayLike | None = None,
    hemisphere: NDArray[np.integer[Any]] | None = None,
) -> xr.Dataset:
    """Coordinates of a set of voxels, in the order of the store.

    Parameters
    ----------
    flat_index : (voxel,) int
        The set: indices into the flattened volume (C order), or vertices, left hemisphere first.
    shape : tuple of int
        (i, j, k) of the volume; (left, right) numbers of vertices of a surface.
    roi : int
        Joined visual ROI of the whole volume or surface.
    atlases : mapping, optional
        Labels of the whole volume, and their names, by atlas.
    ncsnr : float, optional
        Of the whole volume.
    affine : (4, 4) or (16,) float, optional
        Voxel indices of the volume to mm.
    hemisphere : int, optional
        Of the whole volume: 0 left, 1 right, -1 neither. A surface does not need it.

    Returns
    -------
    xr.Dataset
        Coordinates on ``voxel``: ``flat_index``, ``i``, ``j``, ``k`` (not on a surface), ``hemisphere``,
        ``ncsnr``, ``roi`` and one per atlas. ``flat_index`` carries shape and affine of the volume, so
        that an array that keeps the coordinate can return to the volume (the affine row by row: file formats have no
        nested lists).
    """
    flat = np.unique(np.asarray(flat_index, np.int64))
    named: dict[str, tuple[NDArray[Any], Labels]] = {}
    for name, atlas in (atlases or {}).items():
        named[_free_name(atlas_coordinate(name), named)] = atlas
    atlases = named
    general = np.ravel(atlases["nsdgeneral"][0])[flat] > 0 if "nsdgeneral" in atlases else None
    flat = flat[voxel_order(flat, shape, np.ravel(roi)[flat].astype(np.int64), general)]
    grid = {"shape": list(shape)} | ({"affine": np.ravel(affine).astype(float).tolist()} if affine is not None else {})
    table: dict[str, Any] = {"flat_index": ("voxel", flat, grid)}
    if len(shape) == 3:
        indices = np.unravel_index(flat, shape)
        table |= {axis: ("voxel", index) for axis, index in zip("ijk", indices, strict=True)}
    else:
        hemisphere = (np.arange(sum(shape)) >= shape[0]).astype(np.int16)
    if hemisphere is not None:
        flags = flag_attributes({value: name for name, value in HEMISPHERE_CODES.items()})
        table["hemisphere"] = ("voxel", np.ravel(hemisphere)[flat].astype(np.int16), flags)
    if ncsnr is not None:
        table["ncsnr"] = ("voxel", np.ravel(ncsnr)[flat])
    table["roi"] = ("voxel", np.ravel(roi)[flat], flag_attributes({-1: "not_cortex", 0: "unlabelled", **ROI_LABELS}))
    for name, (values, labels) in atlases.items():
        attributes = flag_attributes(labels) | {"long_name": f"label in the atlas {name}"}
        table[name] = ("voxel", np.ravel(values)[flat].astype(np.int16), attributes)
    return xr.Dataset(coords=table)
