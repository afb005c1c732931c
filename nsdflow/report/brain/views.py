"""Views of the brain as images of voxels: every pixel names the voxel that it shows, so that any map is one look-up.

Flat maps and surfaces take, at each pixel, the vertex nearest to it and the voxel nearest to that vertex in the middle
of cortex (or, where the array lacks that voxel, in another layer). Nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from scipy.spatial import cKDTree

from nsdflow.errors import MissingDataError, NsdflowError, SourceError
from nsdflow.names import HEMISPHERES
from nsdflow.nsd.spaces import open_map
from nsdflow.nsd.spaces.surfaces import read_flat, read_sulci, read_surface
from nsdflow.store.surface.place import Place, source_of, surface_place

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["SurfaceMesh", "View", "best_view", "flat_view", "slice_view", "surface_meshes", "surface_view"]

#: Pixels of a flat map from top to bottom.
FLAT_HEIGHT_PX: Final = 400
#: Pixels of one view of a surface from top to bottom.
SURFACE_HEIGHT_PX: Final = 240
#: Layers that are searched for the voxel of a vertex, in this order.
LAYERS_TRIED: Final = ("layerB2", "layerB1", "layerB3", "white", "pial")
#: Largest number of slices of a volume, and number per row.
SLICES, SLICES_PER_ROW = 12, 6
_GAP_PX: Final = 16
#: Distance from the nearest vertex beyond which a pixel is empty, in units of the distance between vertices.
_REACH: Final = 1.6
#: Directions from which a surface is seen: to the right and upwards on the picture, per hemisphere.
_SIDES: Final = {
    "lateral": {"lh": ((0, -1, 0), (0, 0, 1)), "rh": ((0, 1, 0), (0, 0, 1))},
    "medial": {"lh": ((0, 1, 0), (0, 0, 1)), "rh": ((0, -1, 0), (0, 0, 1))},
    "posterior": {"lh": ((1, 0, 0), (0, 0, 1)), "rh": ((1, 0, 0), (0, 0, 1))},
    "ventral": {"lh": ((1, 0, 0), (0, -1, 0)), "rh": ((1, 0, 0), (0, -1, 0))},
}


@dataclass(frozen=True)
class View:
    """An image whose pixels are voxels.

    Attributes
    ----------
    voxel : numpy.ndarray
        (row, column) int32, position of the voxel in the array that the view was made for; -1 shows none.
    underlay : numpy.ndarray
        (row, column) float32 from 0 (dark: sulci) to 1 (light: gyri); NaN outside the brain.
    labels : tuple of (str, float, float)
        Names of parts of the picture with their (column, row).
    note : str
        Description of the picture, and of what it replaces.
    """

    voxel: NDArray[np.int32]
    underlay: NDArray[np.float32]
    labels: tuple[tuple[str, float, float], ...]
    note: str

    def image(self, values: NDArray[Any], fill: float = np.nan) -> NDArray[Any]:
        """Values (voxel,) as an image (row, column), ``fill`` where no voxel is."""
        padded = np.append(np.asarray(values, np.float64), fill)
        return padded[self.voxel]


def best_view(array: xr.DataArray | xr.Dataset, source: str | Source | None = None) -> View:
    """A flat map if NSD's files for it can be read, otherwise slices of the volume; the note says which and why.

    Raises
    ------
    StoreError
        The array does not say where its voxels are.
    NsdflowError
        No flat map can be drawn, and the voxels are vertices, which have no slices.
    """
    try:
        return flat_view(array, source)
    except NsdflowError as error:
        if "i" not in array.coords:
            raise
        view = slice_view(array)
        return View(view.voxel, view.underlay, view.labels, f"{view.note} No flat map: {error}.")


def flat_view(array: xr.DataArray | xr.Dataset, source: str | Source | None = None) -> View:
    """The flattened hemispheres, the left one on the left; sulci are dark.

    Without NSD's patches, data in fsaverage are drawn on nilearn's fsaverage5, whose vertices are the first of
    fsaverage.

    Raises
    ------
    MissingDataError
        A patch, a surface or a transform is missing.
    SourceError
        The surface has other vertices than the array.
    """
    place, nsd = surface_place(_one(array)), source_of(_one(array), source)
    owner = _owner(place)
    try:
        flats = [read_flat(nsd, owner, h) for h in HEMISPHERES]
    except MissingDataError as missing:
        if place.space != "fsaverage":
            raise
        return _shipped_flat_view(place, missing)
    voxel_of = _voxels_of_vertices(place, nsd, [len(flat.places) for flat in flats])
    height = max(float(np.ptp(flat.places[np.isfinite(flat.places[:, 0]), 1])) for flat in flats)
    step = height / FLAT_HEIGHT_PX
    panels = []
    for hemisphere, flat, own in zip(HEMISPHERES, flats, voxel_of, strict=True):
        inside = np.flatnonzero(np.isfinite(flat.places[:, 0]))
        panels.append(_Panel(flat.places[inside], own[inside], _gyri(nsd, owner, hemisphere)[inside], hemisphere, step))
    note = f"Flat maps of {owner}, the left hemisphere on the left; sulci are darker than gyri."
    return _compose([[panel.draw() for panel in panels]], note)


def surface_view(
    array: xr.DataArray | xr.Dataset,
    source: str | Source | None = None,
    surface: str = "inflated",
    sides: tuple[str, ...] = ("lateral", "medial", "posterior", "ventral"),
) -> View:
    """A surface of both hemispheres, seen from several sides, one row per hemisphere."""
    meshes = surface_meshes(array, source, surface)
    step = max(float(np.ptp(mesh.vertices[:, 2])) for mesh in meshes) / SURFACE_HEIGHT_PX
    rows = []
    for hemisphere, mesh in zip(HEMISPHERES, meshes, strict=True):
        normals = _normals(mesh.vertices, mesh.faces)
        row = []
        for side in sides:
            right, up = (np.array(axis, np.float64) for axis in _SIDES[side][hemisphere])
            facing = normals @ np.cross(right, up)
            seen = np.flatnonzero(facing > 0)
            plane = np.stack([mesh.vertices[seen] @ right, mesh.vertices[seen] @ up], axis=1)
            light = mesh.light[seen] * (0.55 + 0.45 * facing[seen].astype(np.float32))
            row.append(_Panel(plane, mesh.voxel[seen], light, f"{hemisphere} {side}", step).draw())
        rows.append(row)
    owner = _owner(surface_place(_one(array)))
    return _compose(rows, f"The {surface} surface of {owner}; sulci are darker than gyri.")


def _shipped_flat_view(place: Place, missing: MissingDataError) -> View:
    """Data in fsaverage on the flat fsaverage5 that comes with nilearn.

    Raises
    ------
    MissingDataError
        ``missing``, where nilearn is not installed or the data have fewer vertices.
    """
    try:
        from nilearn.datasets import fetch_surf_fsaverage
        from nilearn.surface import load_surf_data, load_surf_mesh
    except ImportError:
        raise missing from None
    files = fetch_surf_fsaverage("fsaverage5")  # part of nilearn: no network
    position = np.full(place.size, -1, np.int32)
    position[place.flat_index] = np.arange(len(place.flat_index))
    halves, panels, step = np.split(position, [place.shape[0]]), [], 0.0
    for hemisphere, side, own in zip(HEMISPHERES, ("left", "right"), halves, strict=True):
        mesh = load_surf_mesh(files[f"flat_{side}"])
        if len(own) < len(mesh.coordinates):
            raise missing
        inside = np.unique(mesh.faces)  # vertices without a face have arbitrary positions
        plane = np.asarray(mesh.coordinates, np.float64)[inside, :2]
        light = np.where(np.asarray(load_surf_data(files[f"sulc_{side}"]))[inside] > 0, 0.75, 1.0).astype(np.float32)
        step = step or float(np.ptp(plane[:, 1])) / FLAT_HEIGHT_PX
        panels.append(_Panel(plane, own[inside], light, hemisphere, step))
    note = f"Flat maps of nilearn's fsaverage5, one vertex in 16 of fsaverage, because of: {missing}."
    return _compose([[panel.draw() for panel in panels]], note)


@dataclass(frozen=True)
class SurfaceMesh:
    """A surface of one hemisphere with what its vertices show.

    Attributes
    ----------
    vertices, faces : numpy.ndarray
        (vertex, 3) mm; (face, 3) int32.
    voxel : numpy.ndarray
        (vertex,) int32, position of the voxel in the array; -1 for none.
    light : numpy.ndarray
        (vertex,) float32: 1 on gyri, 0.75 in sulci.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    voxel: NDArray[np.int32]
    light: NDArray[np.float32]


def surface_meshes(
    array: xr.DataArray | xr.Dataset, source: str | Source | None = None, surface: str = "inflated"
) -> tuple[SurfaceMesh, ...]:
    """A surface of the left and of the right hemisphere, with the voxel of each vertex.

    Raises
    ------
    MissingDataError
        A surface or a transform is missing.
    SourceError
        The surface has other vertices than the array.
    """
    place, nsd = surface_place(_one(array)), source_of(_one(array), source)
    owner = _owner(place)
    meshes = [read_surface(nsd, owner, h, surface) for h in HEMISPHERES]
    voxels = _voxels_of_vertices(place, nsd, [len(mesh.vertices) for mesh in meshes])
    return tuple(
        SurfaceMesh(mesh.vertices, mesh.faces, own, _gyri(nsd, owner, hemisphere))
        for hemisphere, mesh, own in zip(HEMISPHERES, meshes, voxels, strict=True)
    )


def slice_view(array: xr.DataArray | xr.Dataset) -> View:
    """Slices across the third axis of the volume, cut to the voxels of the array; left is left, front is up."""
    place = surface_place(_one(array))
    if place.is_surface:
        raise SourceError(f"{place.space} of {place.subject}: vertices have no slices; draw a flat map")
    index = np.stack(np.unravel_index(place.flat_index, place.shape), axis=1)
    low, high = index.min(axis=0), index.max(axis=0) + 1
    grid = np.full(high - low, -1, np.int32)
    grid[tuple((index - low).T)] = np.arange(len(index))
    shown = np.unique(np.linspace(0, grid.shape[2] - 1, min(SLICES, grid.shape[2])).round().astype(int))
    zoom = max(1, FLAT_HEIGHT_PX // (2 * grid.shape[1]))
    panels = []
    for k in shown.tolist():
        plane = grid[:, ::-1, k].T.repeat(zoom, axis=0).repeat(zoom, axis=1)
        panels.append((plane, np.full(plane.shape, 1.0, np.float32), f"k = {k + low[2]}"))
    rows = [panels[start : start + SLICES_PER_ROW] for start in range(0, len(panels), SLICES_PER_ROW)]
    return _compose(rows, f"Slices of {place.space} of {place.subject}: left is left, the front is up.")


_Drawn = tuple["NDArray[np.int32]", "NDArray[np.float32]", str]


@dataclass(frozen=True)
class _Panel:
    """Vertices in a plane, to be drawn: positions (mm), the voxel of each, how light each is, a name, mm per pixel."""

    plane: NDArray[np.float64]
    voxel: NDArray[np.int32]
    light: NDArray[np.float32]
    name: str
    step: float

    def draw(self) -> _Drawn:
        low, high = self.plane.min(axis=0) - 2 * self.step, self.plane.max(axis=0) + 2 * self.step
        columns, rows = np.ceil((high - low) / self.step).astype(int).tolist()
        x = low[0] + (np.arange(columns) + 0.5) * self.step
        y = high[1] - (np.arange(rows) + 0.5) * self.step
        pixels = np.stack(np.meshgrid(x, y), axis=-1)
        tree = cKDTree(self.plane)
        spacing = np.median(np.asarray(tree.query(self.plane, k=[2])[0]))
        reach = max(_REACH * float(spacing), 1.5 * self.step)
        distance, nearest = tree.query(pixels, distance_upper_bound=reach)
        empty = ~np.isfinite(distance)
        voxel, light = np.append(self.voxel, -1)[nearest], np.append(self.light, np.nan)[nearest]
        voxel[empty], light[empty] = -1, np.nan
        return voxel.astype(np.int32), light.astype(np.float32), self.name


def _compose(rows: list[list[_Drawn]], note: str) -> View:
    """Panels side by side and rows above each other, centred in their cells."""
    heights = [max(panel[0].shape[0] for panel in row) for row in rows]
    columns = max(len(row) for row in rows)
    widths = [max(row[c][0].shape[1] for row in rows if c < len(row)) for c in range(columns)]
    shape = (sum(heights) + _GAP_PX * (len(rows) + 1), sum(widths) + _GAP_PX * (columns + 1))
    voxel, light = np.full(shape, -1, np.int32), np.full(shape, np.nan, np.float32)
    labels = []
    for r, row in enumerate(rows):
        top = _GAP_PX + sum(heights[:r]) + _GAP_PX * r
        for c, (own, own_light, name) in enumerate(row):
            left = _GAP_PX + sum(widths[:c]) + _GAP_PX * c
            y = top + (heights[r] - own.shape[0]) // 2
            x = left + (widths[c] - own.shape[1]) // 2
            where = np.s_[y : y + own.shape[0], x : x + own.shape[1]]
            voxel[where], light[where] = own, own_light
            labels.append((name, float(x), float(y)))
    return View(voxel, light, tuple(labels), note)


def _voxels_of_vertices(place: Place, nsd: Source, counts: list[int]) -> list[NDArray[np.int32]]:
    """Position in the array of the voxel of each vertex of both hemispheres; -1 for a vertex without a voxel."""
    if place.is_surface:
        if tuple(counts) != place.shape:
            raise SourceError(
                f"{place.space} of {place.subject}: surfaces of {counts[0]} + {counts[1]} vertices where the data have "
                f"{place.shape[0]} + {place.shape[1]}; take both from the same subject and release"
            )
        position = np.full(place.size, -1, np.int32)
        position[place.flat_index] = np.arange(len(place.flat_index))
    else:
        number = place.spread(np.arange(len(place.flat_index), dtype=np.float64))
        position = np.full(sum(counts), -1, np.int32)
        for layer in LAYERS_TRIED:
            try:
                mapping = open_map(
                    nsd, place.subject, place.space, layer, method="nearest", missing="ignore", shape=place.shape
                )
            except MissingDataError:
                continue
            found = mapping(number)
            if len(found) != len(position):
                raise SourceError(
                    f"{layer} of {place.subject}: {len(found)} vertices in its transforms where its surfaces have "
                    f"{len(position)}; take both from the same release"
                )
            take = (position < 0) & np.isfinite(found)
            position[take] = found[take].astype(np.int32)
    return np.split(position, [counts[0]])


def _gyri(nsd: Source, owner: str, hemisphere: str) -> NDArray[np.float32]:
    """1 on gyri and 0.75 in sulci; 1 everywhere where there is no curvature."""
    try:
        return np.where(read_sulci(nsd, owner, hemisphere) > 0, 0.75, 1.0).astype(np.float32)
    except MissingDataError:
        return np.ones(len(read_surface(nsd, owner, hemisphere, "white").vertices), np.float32)


def _normals(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    a, b, c = vertices[faces].transpose(1, 0, 2)
    across = np.cross(b - a, c - a)
    normals = np.stack(
        [np.bincount(faces.ravel(), np.repeat(across[:, axis], 3), len(vertices)) for axis in range(3)], axis=1
    )
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def _owner(place: Place) -> str:
    return "fsaverage" if place.space == "fsaverage" else place.subject


def _one(array: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The voxel coordinate of a dataset with its attributes."""
    index = array["flat_index"] if "flat_index" in array.coords else None
    if index is None or not hasattr(array, "data_vars"):
        return cast("xr.DataArray", array)
    return index.assign_attrs({**array.attrs, **index.attrs})
