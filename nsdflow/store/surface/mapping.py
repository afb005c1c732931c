"""Lazy arrays in another space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.io.paths import public
from nsdflow.nsd.source import Source
from nsdflow.nsd.spaces import SpaceMap, cast_values, open_map
from nsdflow.nsd.spaces.steps import Missing
from nsdflow.store.surface.place import Place, source_of, surface_place
from nsdflow.store.voxels import flag_attributes, labels_of

__all__ = ["to_space"]

#: Mappings whose transforms stay in memory in a process: one for values, one for labels.
MAPS_KEPT: Final = 2
#: Labels are mapped through the middle of cortex.
LABEL_LAYER: Final = "layerB2"


def to_space(
    array: xr.DataArray,
    target: str,
    *,
    layers: str | Sequence[str] = "mean",
    method: str = "cubic",
    missing: Missing = "propagate",
    fill: float = np.nan,
    source: str | Source | None = None,
) -> xr.DataArray:
    """See :meth:`nsdflow.store.accessor.NsdAccessor.to_space`."""
    place, nsd = surface_place(array), source_of(array, source)
    chosen = layers if isinstance(layers, str) else tuple(layers)
    options = _Options(nsd, place.subject, place.space, target, place.shape)
    mapping = options.open(method, chosen, missing)
    there = _reached(mapping, place)
    floating = array.dtype.kind == "f"
    dtype = array.dtype if floating or not np.isnan(fill) else np.dtype(np.float32)
    lazy = array.chunk({"voxel": -1}) if array.chunks is not None else array
    mapped: xr.DataArray = xr.apply_ufunc(
        _apply,
        lazy.drop_vars([name for name, c in array.coords.items() if "voxel" in c.dims]),
        kwargs={
            "options": options, "method": method, "layers": chosen, "missing": missing,
            "place": place, "there": there, "dtype": dtype, "fill": fill, "period": array.attrs.get("period"),
        },
        input_core_dims=[["voxel"]],
        output_core_dims=[["_target"]],
        dask="parallelized",
        output_dtypes=[dtype],
        dask_gufunc_kwargs={"output_sizes": {"_target": len(there)}},
        keep_attrs=True,
    )  # fmt: skip
    result = mapped.rename({"_target": "voxel"}).assign_coords(_coordinates(array, options, mapping, place, there))
    result = result.transpose(*array.dims)
    known = {"subject": place.subject, "source": public(options.nsd.url)}  # of flat_index, which is another now
    result.attrs = known | result.attrs | {"space": mapping.target, "mapped_from": place.space, "interpolation": method}
    result.attrs.pop("affine", None)
    result.attrs["shape"] = list(mapping.target_shape)
    if mapping.affine is not None:
        result.attrs["affine"] = mapping.affine.ravel().tolist()
    if mapping.layers:
        result.attrs["layers"] = " ".join(mapping.layers)
    return result.rename(array.name)


@dataclass(frozen=True)
class _Options:
    """Paths and settings that open a mapping in any process, without arrays."""

    nsd: Source
    subject: str
    origin: str
    target: str
    shape: tuple[int, ...]

    def open(self, method: str, layers: str | tuple[str, ...], missing: Missing) -> SpaceMap:
        return _open(self.nsd, self.subject, self.origin, self.target, method, layers, missing, self.shape)


@lru_cache(maxsize=MAPS_KEPT)
def _open(
    nsd: Source,
    subject: str,
    origin: str,
    target: str,
    method: str,
    layers: str | tuple[str, ...],
    missing: Missing,
    shape: tuple[int, ...],
) -> SpaceMap:
    return open_map(nsd, subject, origin, target, method=method, layers=layers, missing=missing, shape=shape)


def _apply(
    values: NDArray[Any],
    *,
    options: _Options,
    method: str,
    layers: str | tuple[str, ...],
    missing: Missing,
    place: Place,
    there: NDArray[np.int64],
    dtype: np.dtype[Any],
    fill: float,
    period: float | None,
) -> NDArray[Any]:
    """Values (..., voxel) on the target (..., target); angles, which have a period, are averaged on the circle."""
    mapping = options.open(method, layers, missing)
    frames = values.reshape(-1, values.shape[-1])
    whole = place.spread(frames, -1 if method == "wta" else np.nan).T
    if period is None or method == "wta":
        found = mapping(whole)[there]
    else:
        turn = whole * (2 * np.pi / period)
        across, up = (mapping(part)[there] for part in (np.cos(turn), np.sin(turn)))
        found = np.arctan2(up, across) * (period / (2 * np.pi)) % period
    mapped = cast_values(found, dtype, fill).T
    return mapped.reshape(*values.shape[:-1], len(there))


def _reached(mapping: SpaceMap, place: Place) -> NDArray[np.int64]:
    """Targets to keep: all vertices of a surface; of a volume, the voxels with data."""
    if len(mapping.target_shape) == 2:
        return np.arange(mapping.target_size)
    present = place.spread(np.ones(len(place.flat_index)))
    linear = replace(mapping, method="linear") if mapping.method == "wta" else mapping
    return np.flatnonzero(np.isfinite(linear(present)))


def _coordinates(
    array: xr.DataArray, options: _Options, mapping: SpaceMap, place: Place, there: NDArray[np.int64]
) -> dict[str, Any]:
    """Coordinates of the targets, and labels of atlases by the nearest voxel."""
    grid: dict[str, Any] = {"shape": list(mapping.target_shape)}
    coordinates: dict[str, Any] = {}
    if mapping.affine is not None:
        grid["affine"] = mapping.affine.ravel().tolist()
        indices = np.unravel_index(there, mapping.target_shape)
        coordinates |= {axis: ("voxel", index.astype(np.int32)) for axis, index in zip("ijk", indices, strict=True)}
    else:
        hemisphere = (there >= mapping.target_shape[0]).astype(np.int16)
        coordinates["hemisphere"] = ("voxel", hemisphere, flag_attributes({0: "lh", 1: "rh"}))
    coordinates["flat_index"] = ("voxel", there, grid)
    flagged = [
        name for name, c in array.coords.items()
        if c.dims == ("voxel",) and name != "hemisphere" and labels_of(c.attrs)
    ]  # fmt: skip
    if flagged:
        layer = mapping.layers[0] if len(mapping.layers) == 1 else LABEL_LAYER
        nearest = options.open("nearest", layer, "ignore")
        labels = place.spread(np.stack([array[name].values for name in flagged]).astype(np.float64)).T
        mapped = nearest(labels)[there]
        for column, name in zip(mapped.T, flagged, strict=True):
            coordinates[str(name)] = ("voxel", cast_values(column, np.int16, -1), array[name].attrs)
    return coordinates
