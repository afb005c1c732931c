"""Triangulated spheres: the nested icosahedra of fsaverage, and the evenly spread vertices of a subject."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull

__all__ = ["ICOSAHEDRA", "even_sphere", "icosahedron"]

Floats = npt.NDArray[np.float64]
Faces = npt.NDArray[np.int32]
#: Vertices (vertex, 3) and faces (face, 3), whose corners run counter-clockwise seen from outside.
Mesh = tuple[Floats, Faces]

#: Vertices of the icosahedron divided 0 to 7 times; the last five are fsaverage3 to fsaverage6 and fsaverage.
ICOSAHEDRA: Final = tuple(10 * 4**level + 2 for level in range(8))


def icosahedron(vertices: int) -> Mesh:
    """A divided icosahedron on the unit sphere; its first vertices are those of every coarser one, in order.

    Parameters
    ----------
    vertices : int
        One of `ICOSAHEDRA`.

    Returns
    -------
    (vertex, 3) float64
        Of length 1.
    faces : (face, 3) int32
        ``2 V - 4`` of them.
    """
    golden = (1 + 5**0.5) / 2
    corners = np.array([(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)], np.float64)
    points = np.concatenate([np.roll(corners, shift, axis=1) for shift in range(3)])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = _hull_faces(points)
    while len(points) < vertices:
        points, faces = _divide(points, faces)
    return points, faces


def even_sphere(vertices: int) -> Mesh:
    """Points spread evenly over the unit sphere, with the faces of their convex hull."""
    height = 1 - 2 * (np.arange(vertices) + 0.5) / vertices
    turn = np.pi * (1 + 5**0.5) * np.arange(vertices)
    ring = np.sqrt(1 - height**2)
    points = np.stack([height, ring * np.cos(turn), ring * np.sin(turn)], axis=-1)
    return points, _hull_faces(points)


def _divide(points: Floats, faces: Faces) -> Mesh:
    """Every edge gets a new vertex in its middle, after all old ones; every face becomes four."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    middle = points[unique].sum(axis=1)
    a, b, c = (len(points) + inverse.reshape(-1, 3)).T
    corners = faces.T
    new = [(corners[0], a, c), (corners[1], b, a), (corners[2], c, b), (a, b, c)]
    divided = np.concatenate([np.stack(face, axis=1) for face in new])
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    return np.concatenate([points, middle]), divided.astype(np.int32)


def _hull_faces(points: Floats) -> Faces:
    faces = ConvexHull(points).simplices.astype(np.int32)
    corners: npt.NDArray[Any] = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (normal * corners.mean(axis=1)).sum(axis=1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return faces
