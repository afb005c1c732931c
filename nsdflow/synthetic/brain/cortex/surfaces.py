"""A hemisphere as surfaces: the place of a vertex on the sphere of registration decides its place in the brain.

A hemisphere is half of the ellipsoid, closed by a flat medial wall. The angle from the lateral pole of the sphere
decides on which of the two a vertex lies, so that equal areas of the sphere are equal areas of the dome. The dome is
folded by a sum of waves that differs between subjects; white and pial surface stay within the shell that is cortex in
the volumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from nsdflow.names import HEMISPHERES
from nsdflow.synthetic.brain.cortex.spheres import Faces, Floats, even_sphere, icosahedron
from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["DEPTHS", "Hemisphere", "hemispheres"]

#: Height of each surface above the white one, as a share of the thickness of cortex.
DEPTHS: Final = {"white": 0.0, "layerB3": 0.25, "layerB2": 0.5, "layerB1": 0.75, "pial": 1.0}

_DOME_SHARE: Final = 0.85  # share of the sphere; the rest is the medial wall
_MIDDLE, _FOLD, _THICKNESS = 0.795, 0.045, 0.04  # shares of the radii, within the shell from 0.72 to 0.87
_WAVES, _FREQUENCY = 5, 7.0
_GAP: Final = 0.01  # between the medial walls


@dataclass(frozen=True)
class Hemisphere:
    """One hemisphere of a subject, or of fsaverage.

    Attributes
    ----------
    name : {"lh", "rh"}
        Which one.
    sphere : (vertex, 3) float64
        Unit sphere of registration: left to right, posterior to anterior, inferior to superior.
    faces : (face, 3) int32
        Counter-clockwise from outside.
    waves : (3, wave) float64
        Directions and frequencies of the folds.
    phases : (wave,) float64
        Phases of the folds.
    """

    name: str
    sphere: Floats
    faces: Faces
    waves: Floats
    phases: Floats

    @property
    def lateral(self) -> Floats:
        """Towards the outside of the brain, (vertex,) from -1 (the middle of the medial wall) to 1."""
        return self.sphere[:, 0] * (-1 if self.name == "lh" else 1)

    @property
    def cortex(self) -> npt.NDArray[np.bool_]:
        """Vertices of the dome; the others are the medial wall."""
        return np.asarray(self.lateral >= 1 - 2 * _DOME_SHARE)

    @property
    def fold(self) -> Floats:
        """Height above the middle of folds, (vertex,) within -1 .. 1: above 0 is a gyrus."""
        return np.asarray(np.cos(self.sphere @ self.waves + self.phases).mean(axis=1) * 1.6).clip(-1, 1)

    def positions(self, depth: float) -> Floats:
        """Places in the brain, (vertex, 3) from -1 to 1, at a depth between white (0) and pial surface (1)."""
        radius = _MIDDLE + _FOLD * self.fold + _THICKNESS * (depth - 0.5)
        return self._unfolded() * radius[:, None] + self._shift()

    def inflated(self) -> Floats:
        """The same without folds."""
        return self._unfolded() + self._shift() / _MIDDLE

    def flat(self) -> Floats:
        """The dome seen from its pole, (vertex, 2): equal distances from the pole are kept.

        Patches are drawn turned by -90 degrees: patch coordinates (x, y) appear at (y, -x). Superior is then up, and
        the occipital poles lie next to each other: on the right of the left hemisphere, on the left of the right one.
        """
        distance = self._dome_angle()
        direction = self.sphere[:, 1:] / np.maximum(np.linalg.norm(self.sphere[:, 1:], axis=1, keepdims=True), 1e-9)
        anterior, superior = (direction * (_MIDDLE * distance)[:, None]).T
        u = -anterior if self.name == "lh" else anterior
        return np.stack([-superior, u], axis=1)

    def _dome_angle(self) -> Floats:
        """Angle from the lateral pole of the half ellipsoid: 0 .. pi / 2 on the dome."""
        share = (1 - self.lateral) / (2 * _DOME_SHARE)  # of the dome's area that lies nearer to the pole
        return np.arccos(np.clip(1 - share, 0, 1))

    def _unfolded(self) -> Floats:
        """Points of the half ellipsoid and the disc that closes it, of radius 1."""
        angle = self._dome_angle()
        wall = np.sqrt(np.clip((1 + self.lateral) / (2 - 2 * _DOME_SHARE), 0, 1))
        outward = self.sphere[:, 1:] / np.maximum(np.linalg.norm(self.sphere[:, 1:], axis=1, keepdims=True), 1e-9)
        across = outward * np.where(self.cortex, np.sin(angle), wall)[:, None]
        along = np.where(self.cortex, np.cos(angle), 0.0)
        return np.column_stack([along * (-1 if self.name == "lh" else 1), across])

    def _shift(self) -> Floats:
        return np.array([-_GAP if self.name == "lh" else _GAP, 0.0, 0.0])


def hemispheres(spec: SyntheticSpec, subject: int | None) -> tuple[Hemisphere, Hemisphere]:
    """Both hemispheres of a subject (1-based), or of fsaverage (None), whose folds differ."""
    rng = spec.generator("cortex", "average" if subject is None else subject)
    waves = rng.normal(size=(3, _WAVES))
    waves *= _FREQUENCY * rng.uniform(0.7, 1.3, _WAVES) / np.linalg.norm(waves, axis=0)
    phases = rng.uniform(0, 2 * np.pi, _WAVES)
    counts = spec.vertex_counts(subject or 1, "fsaverage" if subject is None else "nativesurface")
    meshes = [icosahedron(count) if subject is None else even_sphere(count) for count in counts]
    left, right = (Hemisphere(name, *mesh, waves, phases) for name, mesh in zip(HEMISPHERES, meshes, strict=True))
    return left, right
