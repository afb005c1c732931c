"""Surfaces of a subject or of fsaverage, with flat patches and curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import SourceError
from nsdflow.nsd.formats.surfaces import Geometry, read_curvature, read_geometry, read_patch
from nsdflow.nsd.source import Source
from nsdflow.nsd.spaces.grids import TKR_TO_WORLD_MM

__all__ = ["FLAT_PATCH", "FlatMap", "read_flat", "read_sulci", "read_surface", "surface_path"]

#: The whole hemisphere, cut and flattened.
FLAT_PATCH: Final = "full.flat.patch.3d"
#: Surfaces whose coordinates are places in the brain, so that they lie over the anatomy.
_IN_THE_BRAIN: Final = ("white", "pial", "layerB1", "layerB2", "layerB3")


@dataclass(frozen=True)
class FlatMap:
    """One hemisphere, flattened.

    Attributes
    ----------
    places : numpy.ndarray
        (vertex, 2) float64, mm, of all vertices of the surface; NaN for those cut away. Patches are turned by -90
        degrees, as NSD's figures are: (x, y) of the file appears at (y, -x).
    faces : numpy.ndarray
        (face, 3) int32, the faces that lie within the patch.
    """

    places: NDArray[np.float64]
    faces: NDArray[np.int32]


def surface_path(owner: str, hemisphere: str, name: str) -> str:
    """A file of ``freesurfer/OWNER/surf``; the owner is a subject or ``fsaverage``."""
    return f"nsddata/freesurfer/{owner}/surf/{hemisphere}.{name}"


def read_surface(source: Source, owner: str, hemisphere: str, name: str) -> Geometry:
    """Read a surface. Surfaces in a subject's brain are in mm of NSD's anatomical volumes.

    Raises
    ------
    MissingDataError
        No such surface.
    SourceError
        The file is damaged.
    """
    geometry = read_geometry(source, surface_path(owner, hemisphere, name))
    if owner == "fsaverage" or name not in _IN_THE_BRAIN:
        return geometry
    return Geometry(geometry.vertices + TKR_TO_WORLD_MM, geometry.faces)


def read_sulci(source: Source, owner: str, hemisphere: str) -> NDArray[np.float32]:
    """Curvature (vertex,): above 0 in sulci, below on gyri."""
    return read_curvature(source, surface_path(owner, hemisphere, "curv"))


def read_flat(source: Source, owner: str, hemisphere: str) -> FlatMap:
    """Read the flat patch of a hemisphere, with the faces of its white surface.

    Raises
    ------
    MissingDataError
        The patch does not exist.
    SourceError
        The patch has vertices that the surface does not have.
    """
    path = surface_path(owner, hemisphere, FLAT_PATCH)
    patch, white = read_patch(source, path), read_geometry(source, surface_path(owner, hemisphere, "white"))
    places = np.full((len(white.vertices), 2), np.nan)
    _require_within(source, path, patch.vertices, len(places))
    places[patch.vertices] = np.stack([patch.places[:, 1], -patch.places[:, 0]], axis=1)
    inside = np.isfinite(places[:, 0])
    return FlatMap(places, white.faces[inside[white.faces].all(axis=1)])


def _require_within(source: Source, path: str, vertices: NDArray[np.int64], count: int) -> None:
    if len(vertices) and vertices.max() >= count:
        raise SourceError(
            f"{source.join(path)}: vertex {vertices.max()} where the surface has {count}; take both from one subject"
        )
