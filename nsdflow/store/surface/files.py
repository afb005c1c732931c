"""Arrays on surfaces as files for other programs, and as nilearn's images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nsdflow.errors import MissingDataError, StoreError
from nsdflow.io.paths import local_path
from nsdflow.names import HEMISPHERES
from nsdflow.nsd.formats.vertex_files import VertexMap, write_gifti, write_gifti_surface, write_mgz
from nsdflow.nsd.spaces.surfaces import read_surface
from nsdflow.store.surface.place import source_of, surface_place
from nsdflow.store.voxels import labels_of

if TYPE_CHECKING:
    import os

    import xarray as xr

    from nsdflow.nsd.formats.surfaces import Geometry
    from nsdflow.nsd.source import Source

__all__ = ["hemisphere_maps", "surface_image", "surface_values", "write_giftis", "write_mgzs", "write_surfaces"]

_GIFTI_ENDINGS: Final = (".func.gii", ".shape.gii", ".label.gii", ".gii")
_EXPORTED_SURFACES: Final = {"white": "Anatomical", "pial": "Anatomical", "inflated": "Inflated"}
_MGZ_ENDINGS: Final = (".mgz", ".mgh")


def surface_values(array: xr.DataArray) -> tuple[Any, tuple[int, int]]:
    """Values on all vertices (..., vertex), NaN where the array has none, and numbers of vertices per hemisphere."""
    place = surface_place(array)
    if not place.is_surface:
        raise StoreError(
            f"{array.name or 'array'}: its voxels are in a volume ({place.space}); "
            "map it first: .nsd.to_space('fsaverage')"
        )
    left, right = place.shape
    return place.spread(array.transpose(..., "voxel").values), (left, right)


def hemisphere_maps(array: xr.DataArray) -> Iterator[VertexMap]:
    """The left, then the right hemisphere; at most one further dimension becomes the maps.

    Raises
    ------
    StoreError
        More than one further dimension, or no surface.
    """
    data, (left, _) = surface_values(array)
    if data.ndim > 2:
        raise StoreError(
            f"{array.name or 'array'}: dimensions {', '.join(map(str, array.dims))} are too many for a file; "
            "select or average first"
        )
    labels = {value: name for name, flags in labels_of(array.attrs).items() for value in flags}
    names = [str(array.name or "nsdflow")]
    if data.ndim == 2:
        dim = next(str(dim) for dim in array.dims if dim != "voxel")
        index = array[dim].values if dim in array.coords else np.arange(array.sizes[dim])
        names = [f"{names[0]} {dim} {value}" for value in index]
    maps = np.atleast_2d(data)
    if labels:
        maps = np.nan_to_num(maps, nan=min(labels)).astype(np.int32)
    for hemisphere, part in zip(HEMISPHERES, np.split(maps, [left], axis=1), strict=True):
        yield VertexMap(hemisphere, part, names, labels)


def write_giftis(array: xr.DataArray, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """See :meth:`nsdflow.store.accessor.NsdAccessor.to_gifti`."""
    target, stem, _ = _split(path, _GIFTI_ENDINGS, "a GIFTI file ends in .func.gii, .shape.gii or .label.gii")
    facts = {
        key: str(array.attrs[key]) for key in ("subject", "space", "layers", "interpolation") if key in array.attrs
    }
    written = []
    for data, letter in zip(hemisphere_maps(array), "LR", strict=True):
        ending = ".label.gii" if data.labels else ".shape.gii" if target.name.endswith(".shape.gii") else ".func.gii"
        written.append(target.with_name(f"hemi-{letter}_{stem}{ending}"))
        write_gifti(written[-1], data, {"Description": "written by nsdflow", **facts})
    return written[0], written[1]


def write_mgzs(array: xr.DataArray, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """See :meth:`nsdflow.store.accessor.NsdAccessor.to_mgz`."""
    target, stem, ending = _split(path, _MGZ_ENDINGS, "FreeSurfer's files of values end in .mgz")
    written = []
    for data in hemisphere_maps(array):
        written.append(target.with_name(f"{data.hemisphere}.{stem}{ending}"))
        write_mgz(written[-1], data)
    return written[0], written[1]


def surface_image(array: xr.DataArray, surface: str, source: str | Source | None) -> Any:
    """See :meth:`nsdflow.store.accessor.NsdAccessor.to_surface_image`."""
    try:
        from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage
    except ImportError:
        raise StoreError("to_surface_image needs nilearn 0.11 or later: pip install nilearn") from None
    place = surface_place(array)
    values, (left, _) = surface_values(array)
    owner = "fsaverage" if place.space == "fsaverage" else place.subject
    nsd = source_of(array, source)
    parts = {}
    for hemisphere, count in zip(HEMISPHERES, place.shape, strict=True):
        geometry = read_surface(nsd, owner, hemisphere, surface)
        _require_vertices(geometry, count, owner, hemisphere, surface)
        parts[hemisphere] = InMemoryMesh(coordinates=geometry.vertices.astype(np.float32), faces=geometry.faces)
    halves = np.split(values.reshape(-1, values.shape[-1]).T, [left])
    data = {name: half if values.ndim > 1 else half[:, 0] for name, half in zip(("left", "right"), halves, strict=True)}
    return SurfaceImage(mesh=PolyMesh(left=parts["lh"], right=parts["rh"]), data=data)


def write_surfaces(array: xr.DataArray, folder: Path, prefix: str, source: str | Source | None = None) -> list[Path]:
    """Write the surfaces of an array as ``hemi-L_PREFIX_white.surf.gii``, ``..._inflated.surf.gii``, ...

    Surfaces that NSD's folder lacks are left out. Those of a subject are in mm of its anatomical volumes.
    """
    place = surface_place(array)
    owner = "fsaverage" if place.space == "fsaverage" else place.subject
    nsd, written = source_of(array, source), []
    for hemisphere, count, letter in zip(HEMISPHERES, place.shape, "LR", strict=True):
        for name, kind in _EXPORTED_SURFACES.items():
            try:
                geometry = read_surface(nsd, owner, hemisphere, name)
            except MissingDataError:
                continue
            _require_vertices(geometry, count, owner, hemisphere, name)
            written.append(folder / f"hemi-{letter}_{prefix}_{name}.surf.gii")
            coordinates = "surface coordinates (tkr) + 0.4 mm" if owner != "fsaverage" else "of fsaverage"
            write_gifti_surface(written[-1], hemisphere, geometry, kind, {"Coordinates": coordinates, "Owner": owner})
    return written


def _require_vertices(geometry: Geometry, count: int, owner: str, hemisphere: str, surface: str) -> None:
    if len(geometry.vertices) != count:
        raise StoreError(
            f"{hemisphere}.{surface} of {owner}: {len(geometry.vertices)} vertices where the data have {count}; "
            "take both from the same subject and release"
        )


def _split(path: str | os.PathLike[str], endings: tuple[str, ...], rule: str) -> tuple[Path, str, str]:
    """The path, its name without hemisphere and ending, the ending."""
    target = local_path(path)
    for ending in endings:
        if target.name.endswith(ending) and target.name != ending:
            return target, target.name.removesuffix(ending), ending
    raise StoreError(f"{target}: {rule}; rename it")
