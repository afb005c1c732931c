"""A surface of the brain to turn with the mouse, inside a page: a coarse mesh, and every map as one byte per vertex."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np

from nsdflow.names import HEMISPHERES
from nsdflow.report.brain.explorer.packing import pack
from nsdflow.report.brain.views import surface_meshes
from nsdflow.report.markup import script_data
from nsdflow.report.style import PALETTE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.report.brain.maps import BrainMap

__all__ = ["CoarseMesh", "coarsen", "turning_surface"]

#: Vertices per hemisphere that a page shows, about.
SHOWN_VERTICES: Final = 8000
#: Gap between the hemispheres, as a share of the width of one.
_GAP: Final = 0.06


@dataclass(frozen=True)
class CoarseMesh:
    """A mesh of fewer vertices.

    Attributes
    ----------
    vertices : numpy.ndarray
        (vertex, 3) means of the vertices that each stands for.
    faces : numpy.ndarray
        (face, 3) int.
    member : numpy.ndarray
        (vertex of the fine mesh,) which coarse vertex it belongs to.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    member: NDArray[np.int64]


def coarsen(vertices: NDArray[np.float64], faces: NDArray[np.int32], count: int) -> CoarseMesh:
    """Join vertices that share a cube of a grid; cubes are as large as ``count`` of them on the surface ask for.

    A mesh of ``count`` vertices or fewer stays as it is.
    """
    if len(vertices) <= count:
        return CoarseMesh(vertices, faces.astype(np.int64), np.arange(len(vertices)))
    a, b, c = vertices[faces].transpose(1, 0, 2)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    cubes = np.floor((vertices - vertices.min(axis=0)) / np.sqrt(1.5 * area / count)).astype(np.int64)
    sizes = cubes.max(axis=0) + 1
    _, member = np.unique(np.ravel_multi_index(tuple(cubes.T), tuple(sizes)), return_inverse=True)
    weight = np.bincount(member)
    means = np.stack([np.bincount(member, vertices[:, axis]) for axis in range(3)], axis=1) / weight[:, None]
    joined = member[faces]
    first, second, third = joined.T
    joined = joined[(first != second) & (second != third) & (first != third)]
    _, kept = np.unique(np.sort(joined, axis=1), axis=0, return_index=True)
    return CoarseMesh(means, joined[np.sort(kept)], member)


def turning_surface(data: xr.Dataset, maps: Sequence[BrainMap]) -> str:
    """HTML of the inflated surface, with a menu of the maps; needs no network.

    Parameters
    ----------
    data : xr.Dataset
        Results of a subject.
    maps : sequence of BrainMap
        Of its voxels.

    Raises
    ------
    MissingDataError
        A surface or a transform is missing.
    SourceError
        The surface has other vertices than the data.
    """
    meshes = surface_meshes(data)
    parts, voxels, light, faces, first = [], [], [], [], 0
    for hemisphere, mesh in zip(HEMISPHERES, meshes, strict=True):
        coarse = coarsen(mesh.vertices, mesh.faces, SHOWN_VERTICES)
        x = coarse.vertices[:, 0]
        gap = _GAP * float(np.ptp(x)) / 2
        beside = -x.max() - gap if hemisphere == "lh" else -x.min() + gap
        parts.append(coarse.vertices + np.array([beside, 0, 0]))
        voxels.append(_voxel_of(coarse, mesh.voxel))
        light.append(np.bincount(coarse.member, mesh.light) / np.bincount(coarse.member))
        faces.append(coarse.faces + first)
        first += len(coarse.vertices)
    vertices = np.concatenate(parts)
    middle, radius = (vertices.max(axis=0) + vertices.min(axis=0)) / 2, float(np.ptp(vertices, axis=0).max() / 2)
    packed = {
        "vertices": pack(np.round((vertices - middle) / radius * 32000).astype(np.int16)),
        "faces": pack(np.concatenate(faces).astype(np.uint16)),
        "light": pack(np.round(np.concatenate(light) * 255).astype(np.uint8)),
        "maps": [_packed(found, np.concatenate(voxels)) for found in maps],
    }
    template = (resources.files("nsdflow.report.brain") / "turning.html").read_text()
    return template.replace("$data", script_data(packed))


def _voxel_of(coarse: CoarseMesh, voxel: NDArray[np.int32]) -> NDArray[np.int64]:
    """A voxel of each coarse vertex: that of its first vertex with a voxel, -1 if there is none."""
    found = np.full(len(coarse.vertices), -1, np.int64)
    has = np.flatnonzero(voxel >= 0)[::-1]
    found[coarse.member[has]] = voxel[has]
    return found


def _packed(found: BrainMap, voxel: NDArray[np.int64]) -> dict[str, Any]:
    """Values as bytes: 0 for vertices without a value, 1 to 255 from the lower to the upper end of the colours."""
    values = np.append(found.values, np.nan)[voxel]
    if found.categories:
        colours = [mpl.colors.to_rgb(colour) for colour in [*PALETTE, *PALETTE][: len(found.categories)]]
        steps = values + 1
        low, high = 0.0, float(len(colours) - 1)
    else:
        colours = mpl.colormaps[found.cmap](np.linspace(0, 1, 255))[:, :3].tolist()
        low, high = found.colour_limits()
        steps = 1 + np.clip((values - low) / (high - low), 0, 1) * 254
    return {
        "name": found.name, "label": found.label, "limits": [low, high], "categories": list(found.categories),
        "values": pack(np.where(np.isfinite(values), np.round(np.nan_to_num(steps)), 0).astype(np.uint8)),
        "colours": pack((255 * np.asarray(colours)).round().astype(np.uint8)),
    }  # fmt: skip
