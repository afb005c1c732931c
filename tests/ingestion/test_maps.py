"""Published maps, hemispheres and MNI betas in stores, against NSD's files read with nibabel."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nsdflow.ingestion.ingest import carry_out
from nsdflow.nsd.source import open_source
from nsdflow.nsd.voxels.maps import MAPS, map_paths
from nsdflow.nsd.voxels.masks import VOXEL_SETS, voxel_set, voxel_sets
from nsdflow.nsd.voxels.rois import ATLASES, list_atlases
from nsdflow.store import Store
from nsdflow.synthetic import SyntheticSpec, write_nsd

BETAS = "betas_fithrf_GLMdenoise_RR"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject with every published atlas and map; read only."""
    spec = SyntheticSpec(subjects=1, sessions=1, trials_per_session=36, image_size=40, evc_voxels=60, shared_images=4)
    return write_nsd(tmp_path_factory.mktemp("source") / "nsd", spec)


@pytest.fixture(scope="module")
def whole(source: Path, plan, client, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return carry_out(plan(source, tmp_path_factory.mktemp("whole") / "nsd.zarr"), client)


def stored(root: Path, paths: tuple[str, ...]) -> np.ndarray:
    """Values of all voxels or vertices, (n,) or (n, frame)."""
    parts = [np.asarray(opened(root / path).dataobj, np.float64) for path in paths]
    grid = parts[0].shape[:3]
    return np.concatenate([np.squeeze(part.reshape(-1, *part.shape[len(grid) :])) for part in parts])


def opened(path: Path) -> nib.Nifti1Image | nib.MGHImage:
    """From bytes: nibabel leaves surface files open."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.name.endswith((".gz", ".mgz")) else content
    return (nib.MGHImage if ".mg" in path.name else nib.Nifti1Image).from_bytes(content)


@pytest.mark.parametrize("space", ["func1pt8mm", "nativesurface", "fsaverage"])
def test_every_map_is_a_coordinate(source, surface_source, plan, client, tmp_path: Path, space: str) -> None:
    root = source if space == "func1pt8mm" else surface_source
    settings = {"space": space, "voxels": "visual", "subjects": [1], "images": "none"}
    voxels = carry_out(plan(root, tmp_path / "nsd.zarr", **settings), client).voxels(1)
    published = {name for name in MAPS if map_paths(name, "subj01", space, BETAS) is not None}
    assert published <= set(voxels.variables)
    assert len(published) == {"func1pt8mm": len(MAPS), "nativesurface": len(MAPS) - 8, "fsaverage": 2}[space]
    flat = voxels["flat_index"].values
    for name in published - FLOC_BETAS.keys():
        wanted = stored(root, map_paths(name, "subj01", space, BETAS))[flat] * MAPS[name].scale
        np.testing.assert_allclose(voxels[name], wanted, rtol=1e-6)
        assert voxels[name].dtype == np.float32
        assert voxels[name].attrs["units"] == MAPS[name].units
        assert voxels[name].attrs["long_name"]
    for name, first in FLOC_BETAS.items() if space != "fsaverage" else ():
        splits = stored(root, map_paths(name, "subj01", space, BETAS))
        assert splits.shape[1] == 60
        np.testing.assert_allclose(voxels[name], splits[flat, first : first + 6].mean(axis=1), rtol=1e-5, atol=1e-6)


#: The order that NSD documents: six splits fastest, then the categories.
FLOC_BETAS = {
    f"floc_{category}beta": 6 * n
    for n, category in enumerate(
        ("word", "number", "body", "limb", "adult", "child", "corridor", "house", "car", "instrument")
    )
}


def test_probability_maps_of_fsaverage(surface_source: Path, plan, client, tmp_path: Path) -> None:
    """``probmap_*`` are found by their names, whatever the area is called."""
    root = tmp_path / "nsd"
    shutil.copytree(surface_source, root, copy_function=os.link)
    label = root / "nsddata/freesurfer/fsaverage/label"
    for half in ("lh", "rh"):
        shutil.copy(label / f"{half}.probmap_V1v.mgz", label / f"{half}.probmap_my-area.mgz")
    settings = {"space": "fsaverage", "voxels": "visual", "subjects": [1], "images": "none"}
    store = carry_out(plan(root, tmp_path / "nsd.zarr", **settings), client)
    maps = store.maps(1)
    found = [name for name in maps.data_vars if str(name).startswith("probmap_")]
    assert found == [f"probmap_{area}" for area in ("V1d", "V1v", "V2d", "V2v", "V3d", "V3v", "hV4", "my_area")]
    paths = tuple(f"nsddata/freesurfer/fsaverage/label/{half}.probmap_V1v.mgz" for half in ("lh", "rh"))
    wanted = stored(root, paths)[maps["flat_index"].values]
    assert 0 < wanted.mean() < 1
    for name in ("probmap_V1v", "probmap_my_area"):
        np.testing.assert_array_equal(maps[name], wanted)
    assert maps["probmap_V1v"].attrs["long_name"] == "share of the subjects who have V1v here"
    chosen = store.responses(1, where="probmap_V1v == 1")
    assert chosen.sizes["voxel"] == int(wanted.sum())


def test_caps_and_floors_say_nothing() -> None:
    values = np.array([1.0, 999.0, 1000.0, -1000.0, np.nan])
    np.testing.assert_array_equal(MAPS["prf_size"].clean(values), np.float32([1, 999, np.nan, -1000, np.nan]))
    np.testing.assert_array_equal(MAPS["prf_R2"].clean(values), np.float32([1, 999, 1000, np.nan, np.nan]))
    np.testing.assert_array_equal(MAPS["prf_angle"].clean(values)[:3], np.float32([1, 999, 1000]))
    np.testing.assert_allclose(MAPS["betas_mean"].clean(np.array([300.0])), 1.0)


@pytest.mark.parametrize("frames", [1, 59])
def test_localizer_betas_of_other_frames_are_left_out(own_source: Path, plan, tmp_path: Path, frames: int) -> None:
    path = own_source / "nsddata/ppdata/subj01/func1pt8mm/floc_betas.nii.gz"
    image = opened(path)
    path.unlink()
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., :frames], image.affine), path)
    notes = plan(own_source, tmp_path / "nsd.zarr", subjects=[1], voxels="evc", images="none").manifest["left_out"]
    (line,) = (line for line in notes if line.endswith("the map floc_wordbeta is left out"))
    assert f"floc_betas.nii.gz: {frames} volumes where the map has 60" in line


def test_a_broken_map_is_left_out_aloud(own_source, plan, client, tmp_path: Path) -> None:
    path = own_source / "nsddata/ppdata/subj01/func1pt8mm/floc_facestval.nii.gz"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    store = carry_out(plan(own_source, tmp_path / "nsd.zarr", subjects=[1], voxels="evc", images="none"), client)
    assert "floc_facestval" not in store.voxels(1)
    assert "floc_bodiestval" in store.voxels(1)
    assert "floc_facestval is left out" in (tmp_path / "nsd.zarr/manifest.json").read_text()


def test_hemispheres_of_a_volume(source, whole) -> None:
    voxels = whole.voxels(1)
    folder = source / "nsddata/ppdata/subj01/func1pt8mm/roi"
    flat = voxels["flat_index"].values
    left, right = (stored(source, (str(folder / f"{side}.nsdgeneral.nii.gz"),))[flat] >= 0 for side in ("lh", "rh"))
    found = voxels["hemisphere"].values
    assert left.any()
    assert right.any()
    assert (found[left] == 0).all()
    assert (found[right] == 1).all()
    elsewhere = found[~left & ~right]
    assert {-1, 0, 1} >= set(np.unique(elsewhere))
    assert (elsewhere == -1).mean() > 0.5


def test_every_published_atlas_is_read_with_its_names(source, whole) -> None:
    names = list_atlases(open_source(source), "subj01", "func1pt8mm")
    assert set(names) == ATLASES.keys() - {"visualsulc", "gVTC", "hVTC", "gEVC", "fVTC", "hippoSfLabels"}
    for name in names:
        flags = whole.voxels(1)[name.replace("-", "_")].attrs["flag_meanings"].split()
        assert len(flags) == len(set(flags)) > 0


def test_mni(tmp_path: Path, plan, client) -> None:
    spec = SyntheticSpec(
        subjects=1, sessions=2, trials_per_session=24, image_size=32, evc_voxels=40, shared_images=4, spaces=("MNI",)
    )
    root = write_nsd(tmp_path / "nsd", spec)
    planned = plan(root, tmp_path / "nsd.zarr", space="MNI", voxels=None, images="none")
    store = carry_out(planned, client)
    voxels = store.voxels(1)
    folder = root / "nsddata_betas/ppdata/subj01/MNI/betas_fithrf"
    image = nib.load(folder / "betas_session02.nii.gz")
    np.testing.assert_array_equal(np.reshape(voxels["flat_index"].attrs["affine"], (4, 4)), image.affine)
    valid = [stored(root, (str(folder / f"valid_session{n:02d}.nii.gz"),)) > 0 for n in (1, 2)]
    np.testing.assert_array_equal(np.sort(voxels["flat_index"]), np.flatnonzero(valid[0] | valid[1]))
    found = store.responses(1, zscore=False, sessions=[2]).compute()
    betas = np.asanyarray(image.dataobj).reshape(-1, image.shape[-1]).T[:, voxels["flat_index"]]
    np.testing.assert_allclose(found, betas / np.float32(300), rtol=1e-6)
    assert voxel_sets(open_source(root), "subj01", "MNI") == ("brain",)
    assert voxel_set(open_source(root), "subj01", "brain", space="MNI").shape == image.shape[:3]


def test_the_table_of_sets_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/masks.md").read_text()
    for name, record in VOXEL_SETS.items():
        assert f"`{name}`" in page
        assert record.rule
