"""The synthetic cortex, read with nibabel and by hand instead of nsdflow."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from nsdflow.synthetic.brain.cortex.spheres import even_sphere, icosahedron

SURF = "nsddata/freesurfer"
TRANSFORMS = "nsddata/ppdata/subj01/transforms"


def mgz(path):
    return np.squeeze(np.asanyarray(nib.load(path).dataobj))


def volume_of(vertices, faces):
    """Signed volume of a closed surface, positive where faces are counter-clockwise from outside."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return (np.cross(a, b) * c).sum() / 6


@pytest.mark.parametrize("mesh", [icosahedron(642), even_sphere(653)])
def test_spheres_are_closed(mesh):
    points, faces = mesh
    assert len(faces) == 2 * len(points) - 4
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert volume_of(points, faces) == pytest.approx(4 / 3 * np.pi, rel=0.03)


def test_the_first_vertices_of_an_icosahedron_are_those_of_the_coarser_ones():
    coarse, _ = icosahedron(162)
    fine, faces = icosahedron(642)
    np.testing.assert_array_equal(fine[:162], coarse)
    # every new vertex has exactly two old neighbours, and is their spherical midpoint
    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    mixed = edges[(edges[:, 0] < 162) & (edges[:, 1] >= 162)]
    parents = [mixed[mixed[:, 1] == new, 0] for new in range(162, 642)]
    assert {len(pair) for pair in parents} == {2}
    middle = np.array([fine[pair].sum(axis=0) for pair in parents])
    np.testing.assert_allclose(middle / np.linalg.norm(middle, axis=1, keepdims=True), fine[162:], atol=1e-12)


@pytest.mark.parametrize("owner", ["subj01", "fsaverage"])
@pytest.mark.parametrize("hemisphere", ["lh", "rh"])
def test_surfaces_share_their_faces_and_lie_in_one_another(nsd, spec, owner, hemisphere):
    folder = nsd / SURF / owner / "surf"
    names = ("white", "layerB3", "layerB2", "layerB1", "pial", "inflated", "sphere", "sphere.reg")
    surfaces = {name: nib.freesurfer.read_geometry(folder / f"{hemisphere}.{name}") for name in names}
    vertices, faces = surfaces["white"]
    space = "fsaverage" if owner == "fsaverage" else "nativesurface"
    assert len(vertices) == spec.vertex_counts(1, space)[hemisphere == "rh"]
    assert all(np.array_equal(surface[1], faces) for surface in surfaces.values())
    volumes = [volume_of(*surfaces[name]) for name in names[:5]]
    assert volumes == sorted(volumes)
    assert volumes[0] > 0
    assert (np.sign(vertices[:, 0].mean()) < 0) == (hemisphere == "lh")
    curvature = nib.freesurfer.read_morph_data(folder / f"{hemisphere}.curv")
    assert (curvature < 0).any()
    assert (curvature > 0).any()


def test_the_flat_patch_is_flat_and_has_no_medial_wall(nsd):
    raw = (nsd / SURF / "subj01/surf/lh.full.flat.patch.3d").read_bytes()
    minus_one, count = np.frombuffer(raw[:8], ">i4")
    assert (minus_one, len(raw)) == (-1, 8 + 16 * count)
    patch = np.frombuffer(raw[8:], np.dtype([("v", ">i4"), ("xyz", ">f4", 3)]))
    assert not patch["xyz"][:, 2].any()
    assert (patch["v"] < 0).any(), "a border"
    vertices = np.abs(patch["v"]) - 1
    cortex = nib.freesurfer.read_label(nsd / SURF / "subj01/label/lh.cortex.label")
    np.testing.assert_array_equal(np.sort(vertices), np.sort(cortex))
    white, _ = nib.freesurfer.read_geometry(nsd / SURF / "subj01/surf/lh.white")
    # turned by -90 degrees, superior is up and the occipital pole of the left hemisphere is on the right
    assert np.corrcoef(-patch["xyz"][:, 0], white[vertices, 2])[0, 1] > 0.9
    assert np.corrcoef(patch["xyz"][:, 1], -white[vertices, 1])[0, 1] > 0.9


def test_transforms_say_where_the_surfaces_are(nsd):
    """Anatomical indices are surface coordinates + 0.4 mm from the centre; functional ones are consistent with them."""
    for hemisphere in ("lh", "rh"):
        white, _ = nib.freesurfer.read_geometry(nsd / SURF / f"subj01/surf/{hemisphere}.white")
        for name, size in (("anat1pt0", 1.0), ("anat0pt8", 0.8)):
            image = nib.load(nsd / TRANSFORMS / f"func1pt8-to-{name}.nii.gz")
            index = (white + 0.4) / size + (image.shape[0] + 1) / 2
            np.testing.assert_allclose(mgz(nsd / TRANSFORMS / f"{hemisphere}.{name}-to-white.mgz"), index, atol=1e-3)
            # going through the anatomy gives the same functional coordinates: linear in between, so exact
            func = np.asanyarray(image.dataobj)
            low = np.floor(index).astype(int)
            near = np.array([func[tuple(corner - 1)] for corner in low])
            own = mgz(nsd / TRANSFORMS / f"{hemisphere}.func1pt8-to-white.mgz")
            far = np.abs(near - own).max(axis=1)
            assert far.max() < 2 * size / 1.8


def test_index_files_name_the_nearest_vertex_on_the_sphere(nsd, spec):
    own, _ = nib.freesurfer.read_geometry(nsd / SURF / "subj01/surf/rh.sphere.reg")
    average, _ = nib.freesurfer.read_geometry(nsd / SURF / "fsaverage/surf/rh.sphere")
    index = mgz(nsd / TRANSFORMS / "rh.white-to-fsaverage.mgz").astype(int)
    assert index.shape == (spec.vertices,)
    distances = np.linalg.norm(average[:, None] - own[None], axis=2)
    np.testing.assert_array_equal(index - 1, distances.argmin(axis=1))


def test_what_lies_outside_is_out_of_range_in_the_ways_of_the_published_files(nsd, spec):
    x1, y1, _ = spec.volume_shape(1, "func1mm")
    x8, y8, _ = spec.volume_shape(1, "func1pt8mm")
    corner = np.asanyarray(nib.load(nsd / TRANSFORMS / "func1pt8-to-anat1pt0.nii.gz").dataobj)[0, 0, 0]
    expected = [(9999 - x1) / 1.8 + x8, (9999 - y1) / 1.8 + y8, (9999 - 1) / 1.8 + 1]
    np.testing.assert_allclose(corner, expected, rtol=1e-6)
    assert (np.asanyarray(nib.load(nsd / TRANSFORMS / "func1pt0-to-anat1pt0.nii.gz").dataobj)[0, 0, 0] == 9999).all()
