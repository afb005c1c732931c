"""The content of a store against NSD's files read with nibabel, h5py, scipy and PIL."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io
import xarray as xr
import zarr
from PIL import Image

from nsdflow.cluster.connect import connect
from nsdflow.config.storage import Layout
from nsdflow.engine.memory import NUMPY_BYTES
from nsdflow.errors import MissingDataError, PlanError, SelectionError, StoreError
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.io.folders import list_files
from nsdflow.store import open_store
from nsdflow.synthetic import SyntheticSpec, write_nsd

SESSIONS = {"subj01": (1, 2, 3), "subj02": (1, 2)}


def volumes(path: Path) -> np.ndarray:
    """(trial, i, j, k) as nibabel reads it."""
    return np.moveaxis(np.asanyarray(nib.load(path).dataobj), -1, 0)


@pytest.mark.parametrize(("subject", "sessions"), SESSIONS.items())
def test_betas_are_those_of_the_nifti_files(source, whole, betas_file, stored_int16, subject: str, sessions) -> None:
    voxels = whole.voxels(subject)
    i, j, k = (voxels[axis].values for axis in "ijk")
    number = int(subject[-1])
    expected = np.concatenate([volumes(betas_file(source, number, s))[:, i, j, k] for s in sessions])
    assert expected.dtype == np.int16
    assert np.abs(expected).max() > 10_000, "saturated voxels are there"
    np.testing.assert_array_equal(stored_int16(whole, subject), expected)
    np.testing.assert_array_equal(whole.responses(subject, zscore=False), expected / np.float32(300))
    mask = nib.load(source / f"nsddata/ppdata/{subject}/func1pt8mm/brainmask.nii.gz").get_fdata()
    assert set(voxels["flat_index"].values) == set(np.flatnonzero(mask))


def test_hdf5_gives_the_same_store_bit_for_bit(own_source, whole, plan, client, contents, tmp_path: Path) -> None:
    for path in own_source.glob("nsddata_betas/ppdata/*/*/*/betas_session*.nii.gz"):
        path.unlink()
    store = carry_out(plan(own_source, tmp_path / "nsd.zarr"), client)
    ours, theirs = contents(store.url), contents(whole.url)
    for name, content in theirs.items():
        if "/c/" in name:
            assert ours[name] == content, name
    assert len(ours) == len(theirs)
    assert store.voxels(1)["flat_index"].attrs == whole.voxels(1)["flat_index"].attrs  # the affine from elsewhere


@pytest.mark.parametrize("subject", SESSIONS)
def test_statistics_and_valid_voxels(source, whole, stored_int16, subject: str) -> None:
    group = xr.open_datatree(whole.url, engine="zarr")[subject]
    voxels = whole.voxels(subject)
    betas = stored_int16(whole, subject).reshape(len(SESSIONS[subject]), 60, -1).astype(np.float64) / 300
    np.testing.assert_allclose(group["beta_mean"], betas.mean(axis=1), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(group["beta_std"], betas.std(axis=1), rtol=1e-6, atol=1e-9)
    for row, session in enumerate(SESSIONS[subject]):
        path = source / f"nsddata/ppdata/{subject}/func1pt8mm/valid_session{session:02d}.nii.gz"
        published = nib.load(path).get_fdata()[tuple(voxels[axis].values for axis in "ijk")]
        np.testing.assert_array_equal(group["valid"][row], published > 0)
    assert not group["valid"].all()
    raw = stored_int16(whole, subject).reshape(len(SESSIONS[subject]), 60, -1)
    np.testing.assert_array_equal(group["saturated"], ((raw == 32767) | (raw == -32768)).any(axis=1))
    assert 0 < group["saturated"].sum() < group["saturated"].size / 2


def test_without_files_of_valid_voxels_the_data_say_it(own_source, whole, plan, client, tmp_path: Path) -> None:
    for path in own_source.glob("nsddata/ppdata/*/*/valid_session*"):
        path.unlink()
    store = carry_out(plan(own_source, tmp_path / "nsd.zarr", subjects=[1], images="none"), client)
    betas = store.responses(1, zscore=False).values.reshape(3, 60, -1)
    valid = xr.open_datatree(store.url, engine="zarr")["subj01"]["valid"]
    np.testing.assert_array_equal(valid, betas.any(axis=1))


@pytest.mark.parametrize(("subject", "sessions"), SESSIONS.items())
def test_trials_are_those_of_the_design(source, whole, subject: str, sessions) -> None:
    design = scipy.io.loadmat(source / "nsddata/experiments/nsd/nsd_expdesign.mat")
    ordering = design["masterordering"].ravel().astype(int)[: 60 * len(sessions)] - 1
    trials = whole.trials(subject)
    np.testing.assert_array_equal(trials["subject_image"], ordering)
    np.testing.assert_array_equal(trials["nsd_id"], design["subjectim"][int(subject[-1]) - 1].astype(int)[ordering] - 1)
    np.testing.assert_array_equal(trials["shared"], np.isin(trials["nsd_id"] + 1, design["sharedix"]))
    np.testing.assert_array_equal(trials["session"], np.repeat(sessions, 60))
    seen: dict[int, int] = {}
    for image, repetition in zip(ordering.tolist(), trials["repetition"].values.tolist(), strict=True):
        assert repetition == seen.get(image, 0)
        seen[image] = repetition + 1
    assert "rt" in trials
    assert np.isnan(trials["rt"]).any()


def test_voxel_coordinates_are_those_of_the_volumes(source, whole) -> None:
    voxels = whole.voxels(1)
    where = tuple(voxels[axis].values for axis in "ijk")
    roi = source / "nsddata/ppdata/subj01/func1pt8mm/roi"
    loaded = {name: nib.load(roi / f"{name}.nii.gz").get_fdata()[where] for name in ("prf-visualrois", "Kastner2015")}
    joined = np.where(loaded["prf-visualrois"] > 0, loaded["prf-visualrois"], loaded["Kastner2015"])
    np.testing.assert_array_equal(voxels["roi"], joined)
    np.testing.assert_array_equal(voxels["prf_visualrois"], loaded["prf-visualrois"])
    (ncsnr,) = source.glob("nsddata_betas/ppdata/subj01/*/*/ncsnr.nii.gz")
    np.testing.assert_array_equal(voxels["ncsnr"], nib.load(ncsnr).get_fdata(dtype=np.float32)[where])
    assert {path.name.split(".")[0].replace("-", "_") for path in roi.glob("[!lr]*.nii.gz")} <= set(voxels)
    affine = nib.load(roi / "Kastner2015.nii.gz").affine
    np.testing.assert_allclose(voxels["flat_index"].attrs["affine"], affine.ravel(), rtol=1e-6)


def test_a_map_goes_back_to_the_grid_of_nsd(source, whole, tmp_path: Path) -> None:
    """An exported file has the grid and values of NSD's own file."""
    voxels = whole.voxels(1)
    path = voxels["ncsnr"].assign_coords(flat_index=voxels["flat_index"]).nsd.to_nifti(tmp_path / "ncsnr.nii.gz")
    (original,) = source.glob("nsddata_betas/ppdata/subj01/*/*/ncsnr.nii.gz")
    ours, theirs = nib.load(path), nib.load(original)
    np.testing.assert_allclose(ours.affine, theirs.affine, rtol=1e-6)
    inside = np.isfinite(ours.get_fdata())
    np.testing.assert_array_equal(ours.get_fdata()[inside], theirs.get_fdata()[inside])


def resized(source: Path, ids: np.ndarray, size: int) -> np.ndarray:
    with h5py.File(source / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        originals = file["imgBrick"][...][ids]
    small = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)) for image in originals]
    return np.stack(small).transpose(0, 3, 1, 2)


def test_images_are_those_that_trials_show(source, whole) -> None:
    images = whole.images()
    shown = np.union1d(whole.trials(1)["nsd_id"], whole.trials(2)["nsd_id"])
    np.testing.assert_array_equal(images["nsd_id"], shown)
    np.testing.assert_array_equal(images, resized(source, shown, 32))
    np.testing.assert_array_equal(
        images["shared"], np.isin(shown, whole.trials(1)["nsd_id"][whole.trials(1)["shared"]])
    )
    assert "coco_id" in images.coords


def test_all_images_or_none(source, plan, client, tmp_path: Path) -> None:
    few = {"subjects": "2", "voxels": "prf-visualrois"}
    with h5py.File(source / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        count = len(file["imgBrick"])
    everything = carry_out(plan(source, tmp_path / "all.zarr", images="all", **few), client)
    assert everything.images().sizes["image"] == count > 1
    np.testing.assert_array_equal(everything.images(count - 1), resized(source, np.array([count - 1]), 32))
    none = carry_out(plan(source, tmp_path / "none.zarr", images="none", **few), client)
    assert everything.subjects == none.subjects == ("subj02",)
    assert not (Path(none.url) / "stimuli").exists()
    assert (none.voxels(2)["prf_visualrois"] > 0).all()
    with pytest.raises(
        MissingDataError, match=r"none\.zarr: ingested without images; ingest again with --images shown"
    ):
        none.images()


def test_the_plan_says_what_will_be(source, whole, plan, tmp_path: Path) -> None:
    planned = plan(source, tmp_path / "nsd.zarr")
    assert list(tmp_path.iterdir()) == [], "planning writes nothing"
    text = planned.describe()
    for word in ("coordinates", "betas", "images", "statistics", "verification", "peak memory", "files per subject"):
        assert word in text
    stages = planned.stages()
    shards = -(-whole.images().sizes["image"] // 20)
    assert [len(tasks) for tasks in stages.values()] == [3, 5, shards, 2, 3]
    files = sum(task.files for task in planned.tasks)
    made = len(list_files(whole.url)) - 2  # the root's own two
    assert made <= files <= planned.file_budget
    assert made > 0.8 * files, "not much fewer either"
    betas = sum(task.writes for task in stages["betas"])
    assert betas == sum(2 * 60 * len(SESSIONS[s]) * whole.voxels(s).sizes["voxel"] for s in SESSIONS)
    with pytest.raises(PlanError, match="needs"):
        planned.validate(memory_limit=100 << 20)


def test_a_session_stays_within_its_planned_memory(source, plan, client, tmp_path: Path) -> None:
    planned = plan(source, tmp_path / "nsd.zarr", subjects=[1], images="none", layout=Layout(codec="none"))
    tasks = {task.key: task for task in planned.tasks}
    tasks["coordinates-subj01"].call()
    task = tasks["betas-subj01-session02"]
    task.call()  # once, so that imports and caches are not counted
    tracemalloc.start()
    task.call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    values = 2 * 60 * tasks["coordinates-subj01"].job.subject.voxel_count
    assert values < peak < task.memory - NUMPY_BYTES + (20 << 20), "20 MiB: buffers of decompression"


@pytest.fixture(scope="module")
def long_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One long session in func1mm, in every format of volumes: the session is large, everything else is small."""
    spec = SyntheticSpec(
        subjects=1, sessions=1, trials_per_session=1200, image_size=32, spaces=("func1mm",), shapes=((12, 12, 12),),
        evc_voxels=20, betas=("betas_fithrf",), formats=("nii.gz", "hdf5", "mat"), behaviour=False,
    )  # fmt: skip
    return write_nsd(tmp_path_factory.mktemp("long") / "nsd", spec)


@pytest.mark.parametrize("format", ["nii.gz", "hdf5", "mat"])
def test_any_format_is_in_memory_once(long_source, tmp_path: Path, format: str) -> None:
    """Betas at 1 mm in only one format; their task holds the session once, without a second copy."""
    shutil.copytree(long_source, tmp_path / "nsd", copy_function=lambda a, b: Path(b).hardlink_to(a))
    betas = "nsddata_betas/ppdata/subj01/func1mm/betas_fithrf/betas_session01"
    for path in tmp_path.glob(f"nsd/{betas}.*"):
        if path.name != f"betas_session01.{format}":
            path.unlink()
    planned = plan_ingest(
        str(tmp_path / "nsd"), str(tmp_path / "nsd.zarr"), voxels="brain", space="func1mm", betas="betas_fithrf",
        images="none", layout=Layout(chunk_voxels=64),
    )  # fmt: skip
    create, task = planned.tasks[:2]
    create.call()
    task.call()  # once, so that imports and caches are not counted
    tracemalloc.start()
    task.call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert task.writes < peak < 1.6 * task.writes
    group = zarr.open_group(create.job.subject.built, mode="r")["subj01"]
    original = np.asanyarray(nib.load(long_source / f"{betas}.nii.gz").dataobj)
    i, j, k = (group[axis][:] for axis in "ijk")
    np.testing.assert_array_equal(group["betas"][...], original[i, j, k].T)


def test_the_manifest_says_where_everything_came_from(source, whole) -> None:
    manifest = json.loads((Path(whole.url) / "manifest.json").read_text())
    assert manifest["source"] == str(source)
    assert manifest["subjects"]["subj02"]["sessions"] == [1, 2]
    size = next(source.glob("nsddata_betas/ppdata/subj01/*/*/betas_session01.nii.gz")).stat().st_size
    assert f"betas_session01.nii.gz {size}" in manifest["subjects"]["subj01"]["files"]["1"][0]
    assert manifest["nsdflow"] == "0.1.0"
    assert manifest["results"]["verify-subj01"]["volumes"] == 6


def test_progress_is_told(source, plan, client, tmp_path: Path) -> None:
    events: list[dict] = []
    planned = plan(source, tmp_path / "nsd.zarr", subjects=[2], voxels="evc")
    carry_out(planned, client, listen=events.append)
    done = [event["key"] for event in events if event["kind"] == "task-done"]
    assert sorted(done) == sorted(task.key for task in planned.tasks)
    assert done[-1].startswith("verify")


def test_processes_give_the_same_store(source, whole, plan, contents, tmp_path: Path) -> None:
    with connect("local", workers=2, dashboard=None) as client:
        store = carry_out(plan(source, tmp_path / "nsd.zarr"), client)
    assert contents(store.url) == contents(whole.url)


@pytest.mark.parametrize("voxels", ["evc", "visual", "nsdgeneral", "tight", "inflated", "floc-faces"])
def test_a_smaller_set_is_a_part_of_the_whole(source, whole, plan, client, tmp_path: Path, voxels: str) -> None:
    store = carry_out(plan(source, tmp_path / "nsd.zarr", subjects=[1], voxels=voxels, images="none"), client)
    part, everything = (s.responses(1).compute().sortby("flat_index") for s in (store, whole))
    inside = np.isin(everything["flat_index"], part["flat_index"])
    both = np.isin(part["flat_index"], everything["flat_index"])
    np.testing.assert_array_equal(part[:, both], everything[:, inside])
    assert both.all() or voxels == "inflated"


@pytest.mark.parametrize("space", ["nativesurface", "fsaverage"])
def test_surfaces(surface_source, plan, client, tmp_path: Path, space: str) -> None:
    settings = {"space": space, "voxels": "nsdgeneral", "images": "none", "layout": Layout(chunk_voxels=16)}
    store = carry_out(plan(surface_source, tmp_path / "nsd.zarr", **settings), client)
    (folder,) = surface_source.glob(f"nsddata_betas/ppdata/subj01/{space}/*")
    sessions = []
    for session in (1, 2):
        hemispheres = []
        for side in ("lh", "rh"):
            if space == "fsaverage":
                content = (folder / f"{side}.betas_session{session:02d}.mgh").read_bytes()
                image = nib.MGHImage.from_bytes(content)  # load() would leave the file open
                hemispheres.append(np.asanyarray(image.dataobj)[:, 0, 0].T)
            else:
                with h5py.File(folder / f"{side}.betas_session{session:02d}.hdf5") as file:
                    hemispheres.append(file["betas"][...] / np.float32(300))
        sessions.append(np.concatenate(hemispheres, axis=1))
    everything = np.concatenate(sessions).astype(np.float32)
    left = len(hemispheres[0][0])
    responses = store.responses(1, zscore=False)
    flat = responses["flat_index"].values
    np.testing.assert_array_equal(responses, everything[:, flat])
    np.testing.assert_array_equal(responses["hemisphere"], flat >= left)
    scored = store.responses(1).compute()
    assert np.isfinite(scored).all()
    parts = np.split(everything[:, flat], 2)
    expected = np.concatenate([(p - p.mean(0)) / (p.std(0) + np.float32(1e-6)) for p in parts])
    np.testing.assert_allclose(scored, np.nan_to_num(expected), atol=2e-5)
    with pytest.raises(StoreError, match="vertices of a surface"):
        responses[0].nsd.to_volume()


def test_unknown_names_list_what_there_is(source, tmp_path: Path) -> None:
    for settings, message in [
        ({"subjects": [5]}, "unknown subject.*available: subj01, subj02"),
        ({"betas": "betas_fithrf"}, "unknown betas version.*available: betas_fithrf_GLMdenoise_RR"),
        ({"space": "MNI"}, "unknown space .*'MNI'; available: func1pt8mm"),
        ({"voxels": "V1"}, "unknown voxel set.*available: evc, visual"),
        ({"images": "some"}, "unknown choice of images 'some'; available: shown, subjects, all, none"),
    ]:
        with pytest.raises(SelectionError, match=message):
            plan_ingest(str(source), str(tmp_path / "nsd.zarr"), **settings)
    with pytest.raises(MissingDataError, match="no such folder"):
        plan_ingest(str(tmp_path), str(tmp_path / "nsd.zarr"))
    assert list(tmp_path.iterdir()) == []


def test_the_whole_opens_again(whole) -> None:
    again = open_store(whole.url)
    assert again.subjects == ("subj01", "subj02")
    assert again.attrs["voxels"] == "brain"
    tree = xr.open_datatree(whole.url, engine="zarr")
    assert set(tree.children) == {"stimuli", "subj01", "subj02"}
    assert tree["subj02"].attrs["sessions"] == [1, 2]
