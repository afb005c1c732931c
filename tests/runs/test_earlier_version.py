"""A store and runs of version 0.1.0, written before its modules moved, can be opened and used."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import zarr

import nsdflow
from nsdflow.errors import MissingDataError, RunError
from nsdflow.report import write_report
from nsdflow.runs.export import export_maps
from nsdflow.store.surface.place import source_of, surface_place

ARCHIVE = Path(__file__).parent / "data" / "version-0.1.0.tar.xz"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)  # run.yaml names the store as given, by a relative path
    return tmp_path


def test_the_store_gives_the_same_responses(folder):
    store = nsdflow.open_store("nsd.zarr")
    responses = store.responses("subj01", zscore=False)
    assert responses.shape == (72, 20)
    assert responses.attrs["units"] == "percent signal change"
    np.testing.assert_allclose(store.responses("subj01").mean().values, 0, atol=1e-6)
    assert store.images().shape == (24, 3, 32, 32)


def test_a_variable_alone_knows_where_its_voxels_are(folder):
    """Also for a variable outside its group, and after arithmetic that drops attributes."""
    tree = nsdflow.open_run("runs/gnet8j")
    share = tree["subj01"]["accuracy"] / tree["subj01"]["noise_ceiling"]
    place = surface_place(share)
    assert (place.subject, place.space) == ("subj01", "func1pt8mm")
    assert source_of(share, None).url == tree["subj01"].attrs["source"]
    with pytest.raises(MissingDataError, match=r"subj01/surf/lh.*flat.*no such file"):
        share.nsd.plot_flat()


@pytest.mark.parametrize("run", ["gnet8j", "gabor_fwrf", "predict_gnet8j"])
@pytest.mark.usefixtures("blank_pictures")
def test_runs_open_and_report(folder, run):
    tree = nsdflow.open_run(f"runs/{run}")
    assert tree["subj01"].sizes["voxel"] == 20
    page = write_report(f"runs/{run}")
    assert "<svg" in Path(page).read_text() or "<img" in Path(page).read_text() or run.startswith("predict")


def test_maps_are_exported(folder):
    export_maps("runs/gnet8j", Path("maps"))
    assert list(Path("maps").glob("**/*accuracy*.nii.gz"))


@pytest.mark.parametrize("model", ["gnet8j", "gabor_fwrf"])
def test_models_predict_what_they_predicted(folder, model, threads_client):
    new = nsdflow.run("predict", store="nsd.zarr", runs="runs", client=threads_client, model=model, name="again")
    old = nsdflow.open_run(f"runs/predict_{model}")
    np.testing.assert_array_equal(new["subj01"]["nsd_id"], old["subj01"]["nsd_id"])
    # bits depend on the processor's kernels; results of float32 arithmetic agree to a few units in the last place
    np.testing.assert_allclose(new["subj01"]["predictions"], old["subj01"]["predictions"], rtol=1e-4, atol=1e-6)


#: Commands of version 0.1.0, next to the finished runs that they made.
SETTINGS = {
    "gnet8j": {"prefilter": "gabor", "width": 2, "train": {"epochs": 2, "batch_size": 12}},
    "gabor_fwrf": {"candidates": {"sizes": 2, "smallest": 0.2}, "lambdas": 3},
}


@pytest.mark.parametrize("run", SETTINGS)
def test_a_finished_run_is_not_run_again(folder, threads_client, run):
    before = Path(f"runs/{run}/log.jsonl").read_bytes()
    nsdflow.run(run, store="nsd.zarr", runs="runs", client=threads_client, **SETTINGS[run])
    assert Path(f"runs/{run}/log.jsonl").read_bytes() == before


def test_a_finished_run_on_other_voxels_is_refused(folder, threads_client):
    """The shipped pipeline now says voxels: evc. Here the store's evc lacks a voxel that the run has."""
    results = Path("runs/gnet8j/results.zarr")
    before = sorted(file.stat().st_mtime_ns for file in results.rglob("*"))
    labels = zarr.open_array("nsd.zarr/subj01/prf_visualrois", mode="r+")
    labels[0] = 0
    with pytest.raises(RunError, match=r"voxels was null, now \"evc\""):
        nsdflow.run("gnet8j", store="nsd.zarr", runs="runs", client=threads_client, **SETTINGS["gnet8j"])
    assert sorted(file.stat().st_mtime_ns for file in results.rglob("*")) == before
