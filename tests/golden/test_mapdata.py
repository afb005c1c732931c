"""Mapping between spaces, against arrays made by the rules of NSD's own tool; sizes come from the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nsdflow.nsd.source import open_source
from nsdflow.nsd.spaces import cast_values, open_map, sample, splat, valid_points
from nsdflow.nsd.spaces.steps import Gather, Sample, vote

Arrays = dict[str, np.ndarray]
Golden = Callable[[str], Arrays]

METHODS = ("nearest", "linear", "cubic")


def at(source: np.ndarray, transform: np.ndarray, method: str) -> np.ndarray:
    points = valid_points(transform.reshape(-1, 3), source.shape[:3])
    values = source.reshape(np.prod(source.shape[:3]), -1)
    mapped = sample(values, source.shape[:3], points, method)
    return mapped.reshape(*transform.shape[:-1], *source.shape[3:])


def same(found: np.ndarray, expected: np.ndarray, rtol: float = 1e-12) -> None:
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    scale = np.nanmax(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-13 * scale)


@pytest.mark.parametrize("method", METHODS)
def test_a_volume_on_the_grid_of_another(golden: Golden, method: str) -> None:
    arrays = golden("mapdata_vol2vol")
    same(at(arrays["func"], arrays["transform"], method), arrays[f"ml_{method}"])
    same(at(arrays["func_nan"], arrays["transform"], method), arrays[f"ml_{method}_nan"])


def test_the_way_back_is_linear_too(golden: Golden) -> None:
    arrays = golden("mapdata_vol2vol")
    same(at(arrays["anat"], arrays["transform_back"], "linear"), arrays["ml_back_linear"])


@pytest.mark.parametrize(("file", "transform", "expected"), [
    ("mapdata_vol2vol", "transform", "ml_wta"), ("mapdata_vol2surf", "transform_layerB2", "ml_layerB2_wta"),
])  # fmt: skip
def test_labels_go_to_the_winner(golden: Golden, file: str, transform: str, expected: str) -> None:
    arrays = golden(file)
    labels, coordinates = arrays["labels"], arrays[transform]
    points = valid_points(coordinates.reshape(-1, 3), labels.shape)
    found = vote((Sample(labels.shape, (points,), "linear"),), labels.reshape(-1, 1))
    np.testing.assert_array_equal(cast_values(found, float, fill=-1).reshape(arrays[expected].shape), arrays[expected])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", ["layerB1", "layerB2", "layerB3"])
def test_a_volume_on_a_layer_of_cortex(golden: Golden, layer: str, method: str) -> None:
    arrays = golden("mapdata_vol2surf")
    same(at(arrays["func"], arrays[f"transform_{layer}"], method), arrays[f"ml_{layer}_{method}"])


def test_the_mean_over_layers_needs_them_all(golden: Golden) -> None:
    arrays = golden("mapdata_vol2surf")
    func = arrays["func"]
    sets = tuple(valid_points(arrays[f"transform_layerB{layer}"], func.shape) for layer in (1, 2, 3))
    found = Sample(func.shape, sets, "cubic").apply(func.reshape(-1, 1))[:, 0]
    same(found, arrays["ml_mean_cubic"])


def test_surfaces_exchange_vertices_exactly(golden: Golden) -> None:
    arrays = golden("mapdata_surf2surf")
    to_fsaverage = Gather(arrays["white_to_fsaverage"].ravel().astype(np.intp) - 1)
    to_native = Gather(arrays["fsaverage_to_white"].ravel().astype(np.intp) - 1)
    np.testing.assert_array_equal(to_fsaverage.apply(arrays["native"]), arrays["py_native_to_fsaverage"])
    np.testing.assert_array_equal(to_fsaverage.apply(arrays["native_frames"]), arrays["py_native_frames_to_fsaverage"])
    np.testing.assert_array_equal(to_native.apply(arrays["fsaverage"]), arrays["py_fsaverage_to_native"])
    np.testing.assert_array_equal(to_native.apply(arrays["fsaverage_labels"]), arrays["py_fsaverage_labels_to_native"])


def test_vertices_are_splatted_into_a_volume(golden: Golden) -> None:
    arrays = golden("mapdata_surf2vol")
    shape = (int(arrays["res"]),) * 3
    found = splat(arrays["values"], arrays["coords"], shape).reshape(arrays["ml_linear"].shape)
    same(np.where(np.isnan(found), -7, found), arrays["ml_linear"])

    class Splatted:
        def apply(self, values: np.ndarray) -> np.ndarray:
            return splat(values, arrays["coords"], shape)

    winners = cast_values(vote((Splatted(),), arrays["labels"]), float, fill=-1)
    np.testing.assert_array_equal(winners.reshape(shape), arrays["ml_surfacewta"])


def test_frames_and_integers(golden: Golden) -> None:
    arrays = golden("mapdata_quirks")
    same(at(arrays["frames"], arrays["transform"], "linear").astype(np.float32), arrays["ml_frames_linear"], rtol=1e-6)
    sampled = at(arrays["func_int16"], arrays["transform"], "linear")
    found = cast_values(sampled, np.int16, fill=-1)
    assert found.dtype == arrays["ml_int16_linear"].dtype
    np.testing.assert_array_equal(found, arrays["ml_int16_linear"])


# ------------------------------------------------------------------------------------------ through the published files


def write_nii(path: Path, transform: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(transform.astype(np.float32), np.eye(4)), path)


def write_mgz(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = values.astype(np.float32).reshape(len(values), 1, 1, -1)
    nib.save(nib.freesurfer.MGHImage(frames[..., 0] if frames.shape[-1] == 1 else frames, np.eye(4)), path)


TRANSFORMS = "nsddata/ppdata/subj01/transforms"


@pytest.fixture
def invented(golden: Golden, tmp_path: Path) -> Path:
    """The golden transforms under their published names; both hemispheres are the same."""
    volumes, layers, surfaces = (golden(f"mapdata_{name}") for name in ("vol2vol", "vol2surf", "surf2surf"))
    folder = tmp_path / TRANSFORMS
    write_nii(folder / "func1pt8-to-anat1pt0.nii.gz", volumes["transform"])
    write_nii(folder / "anat1pt0-to-func1pt8.nii.gz", volumes["transform_back"])
    write_nii(folder / "func1pt8-to-MNI.nii.gz", volumes["transform_mni"])
    for hemisphere in ("lh", "rh"):
        for layer in ("layerB1", "layerB2", "layerB3"):
            write_mgz(folder / f"{hemisphere}.func1pt8-to-{layer}.mgz", layers[f"transform_{layer}"])
        write_mgz(folder / f"{hemisphere}.white-to-fsaverage.mgz", surfaces["white_to_fsaverage"])
        write_mgz(folder / f"{hemisphere}.fsaverage-to-white.mgz", surfaces["fsaverage_to_white"])
    return tmp_path


def test_the_files_of_a_subject_give_the_same(golden: Golden, invented: Path) -> None:
    volumes, layers = golden("mapdata_vol2vol"), golden("mapdata_vol2surf")
    source = open_source(invented)
    anatomy = open_map(source, "subj01", "func1pt8mm", "anat1pt0", shape=volumes["func"].shape)
    same(anatomy(volumes["func"].ravel()).reshape(anatomy.target_shape), volumes["ml_cubic"])
    np.testing.assert_array_equal(anatomy.affine, volumes["py_anat_affine"])
    back = open_map(source, "subj01", "anat1pt0", "func1pt8", method="linear")
    same(back(volumes["anat"].ravel()).reshape(back.target_shape), volumes["ml_back_linear"])
    native = open_map(source, "subj01", "func1pt8mm", "nativesurface")
    same(native(layers["func"].ravel()), np.tile(layers["ml_mean_cubic"], 2))
    one = open_map(source, "subj01", "func1pt8mm", "layerB2", method="wta")
    labels = cast_values(one(layers["labels"].ravel()), float, fill=-1)
    np.testing.assert_array_equal(labels, np.tile(layers["ml_layerB2_wta"], 2))


def test_mni_runs_from_left_to_right_once_it_is_written(golden: Golden, invented: Path) -> None:
    arrays = golden("mapdata_vol2vol")
    mapping = open_map(open_source(invented), "subj01", "func1pt8mm", "MNI", method="linear")
    np.testing.assert_array_equal(mapping.affine, arrays["py_mni_affine"])
    found = mapping(arrays["func"].ravel()).reshape(mapping.target_shape)
    # the Python of the reference treats valid points below 2 and above N otherwise: compare where both have data
    raw = at(arrays["func"], arrays["transform_mni"], "linear")
    same(found, raw[::-1])
    inside = np.isfinite(found) & (arrays["py_mni_array_with_file"] != 0)
    assert inside.any()
    np.testing.assert_allclose(found[inside], arrays["py_mni_array_with_file"][inside], rtol=1e-10)


def test_native_and_fsaverage(golden: Golden, invented: Path) -> None:
    arrays = golden("mapdata_surf2surf")
    source = open_source(invented)
    there = open_map(source, "subj01", "nativesurface", "fsaverage")
    np.testing.assert_array_equal(
        there(np.tile(arrays["native_frames"], (2, 1))), np.tile(arrays["py_native_frames_to_fsaverage"], (2, 1))
    )
    back = open_map(source, "subj01", "fsaverage", "nativesurface")
    np.testing.assert_array_equal(back(np.tile(arrays["fsaverage"], 2)), np.tile(arrays["py_fsaverage_to_native"], 2))
