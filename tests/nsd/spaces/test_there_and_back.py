"""A known function of the place in a synthetic brain is sampled on every grid and surface, and found after mapping."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nsdflow.nsd.source import Source, open_source
from nsdflow.nsd.spaces import open_map
from nsdflow.synthetic import SyntheticSpec
from nsdflow.synthetic.published.cortex import write_cortex

SPEC = SyntheticSpec(subjects=1, vertices=642, shapes=((24, 28, 22),))
SHAPE = SPEC.shapes[0]


def truth(mm: np.ndarray) -> np.ndarray:
    """A function of functional world mm that is smooth on the scale of a voxel and differs along every axis."""
    x, y, z = np.moveaxis(mm, -1, 0)
    return np.sin(x / 6) + 0.05 * y + np.cos(z / 7 + 1) + 0.01 * x * z


def functional_mm(shape: tuple[int, ...], voxel_mm: float) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * voxel_mm for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cortex")
    write_cortex(root, SPEC)
    return root


@pytest.fixture(scope="module")
def source(folder: Path) -> Source:
    return open_source(folder)


@pytest.fixture(scope="module")
def func() -> np.ndarray:
    return truth(functional_mm(SHAPE, 1.8)).ravel()


def vertices_in_functional_mm(folder: Path, surface: str) -> np.ndarray:
    """From the surfaces alone: anatomical mm are tkr + 0.4; function is turned and shifted against the anatomy."""
    cos, sin = np.cos(np.radians(4)), np.sin(np.radians(4))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    surf = folder / "nsddata/freesurfer/subj01/surf"
    tkr = np.concatenate([nib.freesurfer.read_geometry(surf / f"{h}.{surface}")[0] for h in ("lh", "rh")])
    return (tkr + 0.4 - [1.2, -2.0, 0.8]) @ turn


@pytest.mark.parametrize(("method", "tolerance"), [("cubic", 0.02), ("linear", 0.06), ("nearest", 0.4)])
@pytest.mark.parametrize("surface", ["white", "layerB2", "pial"])
def test_a_volume_on_a_surface(
    folder: Path, source: Source, func: np.ndarray, surface: str, method: str, tolerance: float
) -> None:
    mapping = open_map(source, "subj01", "func1pt8mm", surface, method=method, shape=SHAPE)
    expected = truth(vertices_in_functional_mm(folder, surface))
    assert mapping.target_shape == SPEC.vertex_counts(1, "nativesurface")
    np.testing.assert_allclose(mapping(func), expected, atol=tolerance)


def test_fsaverage_has_the_values_of_the_nearest_vertices(folder: Path, source: Source, func: np.ndarray) -> None:
    mapping = open_map(source, "subj01", "func1pt8mm", "fsaverage")
    found = mapping(func)
    native = np.mean([truth(vertices_in_functional_mm(folder, f"layerB{layer}")) for layer in (1, 2, 3)], axis=0)
    spheres = {
        who: [nib.freesurfer.read_geometry(folder / f"nsddata/freesurfer/{who}/surf/{h}.sphere{reg}")[0]
              for h in ("lh", "rh")]
        for who, reg in (("subj01", ".reg"), ("fsaverage", ""))
    }  # fmt: skip
    start, expected = 0, []
    for own, average in zip(spheres["subj01"], spheres["fsaverage"], strict=True):
        nearest = np.linalg.norm(average[:, None] - own[None], axis=2).argmin(axis=1)
        expected.append(native[start + nearest])
        start += len(own)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=0.02)


def test_function_to_anatomy_and_back(source: Source, func: np.ndarray) -> None:
    there = open_map(source, "subj01", "func1pt8mm", "anat1pt0")
    back = open_map(source, "subj01", "anat1pt0", "func1pt8mm")
    returned = back(there(func))
    inner = np.zeros(SHAPE, bool)
    inner[3:-3, 3:-3, 3:-3] = True
    kept = inner.ravel() & np.isfinite(returned)
    assert kept.sum() > 0.9 * inner.sum()
    np.testing.assert_allclose(returned[kept], func[kept], atol=0.02)


def test_mni_is_not_mirrored(source: Source, func: np.ndarray) -> None:
    """x grows to the right in the volume that leaves; a map from MNI expects it that way too."""
    there = open_map(source, "subj01", "func1pt8mm", "MNI")
    x = functional_mm(SHAPE, 1.8)[..., 0].ravel()
    mni = there(x).reshape(there.target_shape)
    middle = mni[:, mni.shape[1] // 2, mni.shape[2] // 2]
    middle = middle[np.isfinite(middle)]
    assert (np.diff(middle) > 0).all()
    assert there.affine is not None
    assert there.affine[0, 0] > 0
    back = open_map(source, "subj01", "MNI", "func1pt8mm", shape=there.target_shape)
    returned = back(there(func))
    kept = np.isfinite(returned)
    assert kept.mean() > 0.5
    np.testing.assert_allclose(returned[kept], func[kept], atol=0.05)


def test_a_surface_in_the_anatomy(folder: Path, source: Source) -> None:
    """Vertices, splatted into the voxels around them, have the value of their neighbourhood."""
    mapping = open_map(source, "subj01", "nativesurface", "anat1pt0")
    vertices = np.mean([vertices_in_functional_mm(folder, f"layerB{layer}") for layer in (1, 2, 3)], axis=0)
    volume = mapping(vertices)  # a map of the places themselves, three frames
    filled = np.isfinite(volume[:, 0])
    side = mapping.target_shape[0]
    world = functional_mm(mapping.target_shape, 1.0).reshape(-1, 3)[filled]
    cos, sin = np.cos(np.radians(4)), np.sin(np.radians(4))
    expected = (world - [1.2, -2.0, 0.8]) @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    assert 0.005 * side**3 < filled.sum()
    assert np.abs(volume[filled] - expected).max() < 3, "a voxel and the mean of the layers at most"


def test_labels_stay_labels(source: Source) -> None:
    labels = (functional_mm(SHAPE, 1.8)[..., 1] > 0).astype(int).ravel() + 4
    mapped = open_map(source, "subj01", "func1pt8mm", "fsaverage", method="wta")(labels)
    assert set(np.unique(mapped[np.isfinite(mapped)])) == {4.0, 5.0}


def test_between_resolutions_of_the_anatomy(source: Source) -> None:
    there = open_map(source, "subj01", "anat1pt0", "anat0pt8")
    shape = there.source_shape
    ramp = functional_mm(shape, 1.0)[..., 2].ravel()
    expected = functional_mm(there.target_shape, 0.8)[..., 2].ravel()
    found = there(ramp)
    inner = np.isfinite(found) & (np.abs(expected) < shape[2] / 2 - 2)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-9)
