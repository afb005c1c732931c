"""The turnable surface: a coarse mesh that keeps its shape, with values of the voxels of its vertices."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import xarray as xr

from nsdflow.report.brain.maps import brain_maps
from nsdflow.report.brain.turning import coarsen, turning_surface
from nsdflow.report.brain.views import surface_meshes
from nsdflow.synthetic.brain.cortex.spheres import icosahedron


def test_a_coarse_sphere_is_a_sphere() -> None:
    vertices, faces = icosahedron(10242)
    coarse = coarsen(vertices, faces, 2000)
    assert 1000 < len(coarse.vertices) < 4000
    radius = np.linalg.norm(vertices[0])
    np.testing.assert_allclose(np.linalg.norm(coarse.vertices, axis=1), radius, rtol=0.01)
    # each fine vertex is near its coarse vertex, and the surface stays closed
    distance = np.linalg.norm(coarse.vertices[coarse.member] - vertices, axis=1)
    assert distance.max() < 0.15 * radius
    a, b, c = coarse.vertices[coarse.faces].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    area = 0.5 * np.linalg.norm(normals, axis=1).sum()
    assert area == pytest.approx(4 * np.pi * radius**2, rel=0.02)
    assert ((normals * (a + b + c)).sum(axis=1) > 0).mean() > 0.99, "faces look outwards"
    small = coarsen(vertices, faces, 20000)
    np.testing.assert_array_equal(small.faces, faces)


def unpack(packed: dict[str, str]) -> np.ndarray:
    kind = packed["type"].removesuffix("Array").lower()
    return np.frombuffer(base64.b64decode(packed["data"]), np.dtype(kind).newbyteorder("<"))


def test_vertices_show_their_voxels(subject: xr.Dataset) -> None:
    """642 vertices per hemisphere are not coarsened, so every byte can be compared with its voxel."""
    maps = brain_maps(subject)
    page = turning_surface(subject, maps)
    assert len(page) < 5e6
    assert "http" not in re.sub(r"<script type=.*?</script>", "", page, flags=re.DOTALL)
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    meshes = surface_meshes(subject)
    voxel = np.concatenate([mesh.voxel for mesh in meshes])
    assert (voxel >= 0).sum() > 20
    shown = {one["name"]: one for one in data["maps"]}
    assert list(shown) == [found.name for found in maps]
    low, high = shown["accuracy"]["limits"]
    values = subject["accuracy"].values[voxel]
    steps = 1 + 254 * np.clip((values - low) / (high - low), 0, 1)
    np.testing.assert_array_equal(unpack(shown["accuracy"]["values"]), np.where(voxel < 0, 0, np.round(steps)))
    layer = unpack(shown["preferred layer"]["values"])
    np.testing.assert_array_equal(layer, np.where(voxel < 0, 0, 1 + subject["flat_index"].values[voxel] % 3))
    # the hemispheres are separate, the left one on the left
    x = unpack(data["vertices"]).reshape(-1, 3)[:, 0]
    left = len(meshes[0].vertices)
    assert x[:left].max() < x[left:].min()
