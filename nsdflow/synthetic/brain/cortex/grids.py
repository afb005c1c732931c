"""Grids of a synthetic subject: every volume is an affine map of the places in its brain.

The anatomy is turned and shifted against the functional volumes, as after a registration. Mistakes in axes,
origins or rounding therefore show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from nsdflow.synthetic.brain.cortex.spheres import Floats
from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["TKR_SHIFT_MM", "VolumeGrid", "subject_grids", "to_tkr"]

#: FreeSurfer's surface coordinates are mm of the anatomical volumes minus this, on every axis.
TKR_SHIFT_MM: Final = 0.4

_TILT: Final = np.radians(4.0)  # rotation of the anatomy about the axis from left to right, in radians
_SHIFT_MM: Final = np.array([1.2, -2.0, 0.8])
_MNI_FOV: Final = 1.05  # the brain does not quite fill the template
_MNI_SHAPE: Final = (182, 218, 182)
_PUBLISHED_MM: Final = 256
_MARGIN_MM: Final = 8


@dataclass(frozen=True)
class VolumeGrid:
    """A grid of voxels.

    Attributes
    ----------
    name : str
        As in the names of transform files.
    shape : tuple of int
        (i, j, k).
    voxel_mm : float
        Side of a voxel.
    matrix, offset : (3, 3) and (3,) float64
        The place in the brain of an index c, from 1: ``matrix @ c + offset``.
    """

    name: str
    shape: tuple[int, int, int]
    voxel_mm: float
    matrix: Floats
    offset: Floats

    def index_of(self, places: Floats) -> Floats:
        """Indices (n, 3), from 1, of places in the brain (n, 3)."""
        return np.asarray((places - self.offset) @ np.linalg.inv(self.matrix).T)


def subject_grids(spec: SyntheticSpec, subject: int) -> dict[str, VolumeGrid]:
    """The grids of a subject (1-based): functional, anatomical and MNI, whose first axis runs from right to left."""
    functional = [
        _functional(name, spec.volume_shape(subject, space), voxel_mm)
        for name, space, voxel_mm in (("func1pt8", "func1pt8mm", 1.8), ("func1pt0", "func1mm", 1.0))
    ]
    half_mm = np.array(functional[0].shape) * functional[0].voxel_mm / 2
    side = 4 * int(np.ceil((2 * half_mm.max() + _MARGIN_MM) / 4))
    side = _PUBLISHED_MM if side > _PUBLISHED_MM / 2 else side
    anatomical = [_anatomical("anat1pt0", side, 1.0, half_mm), _anatomical("anat0pt8", side * 5 // 4, 0.8, half_mm)]
    template = tuple(round(n * side / _PUBLISHED_MM) for n in _MNI_SHAPE)
    return {grid.name: grid for grid in (*functional, *anatomical, _template(template))}


def to_tkr(spec: SyntheticSpec, subject: int, places: Floats) -> Floats:
    """Places in the brain as FreeSurfer's surface coordinates of the subject, mm."""
    shape = spec.volume_shape(subject, "func1pt8mm")
    return np.asarray(places * (np.array(shape) * 1.8 / 2) @ _rotation().T + _SHIFT_MM - TKR_SHIFT_MM)


def _rotation() -> Floats:
    cos, sin = np.cos(_TILT), np.sin(_TILT)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def _functional(name: str, shape: tuple[int, int, int], voxel_mm: float) -> VolumeGrid:
    n = np.array(shape, np.float64)
    return VolumeGrid(name, shape, voxel_mm, np.diag(2 / n), -1 / n - 1)


def _anatomical(name: str, side: int, voxel_mm: float, half_mm: Floats) -> VolumeGrid:
    """World mm are (c - (N + 1) / 2) * voxel_mm; the place is the world turned back, over half the functional FOV."""
    back = _rotation().T / half_mm[:, None]
    offset = back @ (-(side + 1) / 2 * voxel_mm - _SHIFT_MM)
    return VolumeGrid(name, (side, side, side), voxel_mm, back * voxel_mm, offset)


def _template(shape: tuple[int, ...]) -> VolumeGrid:
    n, sign = np.array(shape, np.float64), np.array([-1.0, 1.0, 1.0])
    i, j, k = shape
    return VolumeGrid("MNI", (i, j, k), 1.0, np.diag(_MNI_FOV * sign * 2 / n), _MNI_FOV * sign * (-1 / n - 1))
