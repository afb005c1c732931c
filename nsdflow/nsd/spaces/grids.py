"""The spaces of NSD: their names here and in files, and the positions of their grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import one_of

__all__ = [
    "GRIDS",
    "LAYERS",
    "MNI_ORIGIN_MM",
    "TKR_TO_WORLD_MM",
    "Grid",
    "affine_of",
    "functional_offset",
    "grid_named",
]

GridKind = Literal["functional", "anatomical", "template", "surface"]

#: World coordinates of the first voxel of an MNI volume, left to right, posterior to anterior, inferior to superior.
MNI_ORIGIN_MM: Final = (-91.0, -126.0, -72.0)

#: FreeSurfer's surface coordinates (tkr) plus this, on every axis, are mm of NSD's anatomical volumes.
TKR_TO_WORLD_MM: Final = 0.4


@dataclass(frozen=True)
class Grid:
    """One space.

    Attributes
    ----------
    name : str
        Here: ``"func1pt8mm"``, as in the folders of NSD.
    file_name : str
        Name in transform files: ``"func1pt8"``.
    kind : {"functional", "anatomical", "template", "surface"}
        Kind of grid.
    voxel_mm : float
        Side of a voxel; 0 for a surface.
    """

    name: str
    file_name: str
    kind: GridKind
    voxel_mm: float = 0.0

    @property
    def is_volume(self) -> bool:
        """Whether it has voxels, not vertices."""
        return self.kind != "surface"


#: Every space, by name.
GRIDS: Final[Mapping[str, Grid]] = {
    grid.name: grid
    for grid in (
        Grid("func1pt8mm", "func1pt8", "functional", 1.8),
        Grid("func1mm", "func1pt0", "functional", 1.0),
        Grid("anat0pt5", "anat0pt5", "anatomical", 0.5),
        Grid("anat0pt8", "anat0pt8", "anatomical", 0.8),
        Grid("anat1pt0", "anat1pt0", "anatomical", 1.0),
        Grid("MNI", "MNI", "template", 1.0),
        Grid("nativesurface", "white", "surface"),
        Grid("fsaverage", "fsaverage", "surface"),
    )
}

#: Surfaces of a subject, which share their vertices: the layers lie at 25, 50 and 75 % of the depth of cortex.
LAYERS: Final = ("layerB1", "layerB2", "layerB3", "white", "pial")


def grid_named(name: str) -> Grid:
    """The space of a name; those in the names of files (``func1pt8``, ``func1pt0``) are understood too.

    Raises
    ------
    SelectionError
        No such space.
    """
    by_file = {grid.file_name: grid for grid in GRIDS.values() if grid.is_volume}
    if name not in GRIDS and name not in by_file:
        raise one_of("space", name, GRIDS)
    return GRIDS.get(name) or by_file[name]


def affine_of(grid: Grid, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Voxel indices (from 0) to mm, as NSD writes it: the origin is the centre of the volume, in MNI that of MNI152."""
    affine = np.diag([grid.voxel_mm] * 3 + [1.0])
    affine[:3, 3] = MNI_ORIGIN_MM if grid.kind == "template" else -(np.asarray(shape) - 1) / 2 * grid.voxel_mm
    return affine


def functional_offset(
    low: tuple[int, int, int], high: tuple[int, int, int], to_low: bool
) -> tuple[NDArray[np.floating[Any]], ...]:
    """Positions of one functional grid in the other, per axis, 1-based.

    The last voxels along x and y and the first along z share their centres:
    ``x1 = X1 + 1.8 (i - X8)``, ``y1 = Y1 + 1.8 (j - Y8)``, ``z1 = 1 + 1.8 (k - 1)``.

    Parameters
    ----------
    low, high : tuple of int
        Shapes of func1pt8mm and func1mm.
    to_low : bool
        True: where each index of func1pt8mm lies in func1mm. False: the reverse.
    """
    ratio = GRIDS["func1pt8mm"].voxel_mm / GRIDS["func1mm"].voxel_mm
    shared = [(low[0], high[0]), (low[1], high[1]), (1, 1)]
    if to_low:
        return tuple(h + ratio * (np.arange(1, n + 1) - lo) for n, (lo, h) in zip(low, shared, strict=True))
    return tuple(lo + (np.arange(1, n + 1) - h) / ratio for n, (lo, h) in zip(high, shared, strict=True))
