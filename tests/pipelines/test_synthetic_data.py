"""Synthetic data sets: the formula by a plain loop, ordinary stores, and interruptions."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client
from PIL import Image

import nsdflow
from nsdflow.analysis import accuracy
from nsdflow.errors import ConfigError, MissingDataError, RunError
from nsdflow.fit.split import last_trials_holdout
from nsdflow.pipelines.common.data import load_trials
from nsdflow.pipelines.synthetic_data import stores as synthetic_stores
from nsdflow.runs.folder import RunFolder
from nsdflow.store.shard_format import ShardedArray

TRAIN: Mapping[str, Any] = {"threads": 1, "bootstrap": 2, "train": {"epochs": 1, "batch_size": 40}}
GNET: Mapping[str, Any] = {**TRAIN, "prefilter": "gabor", "width": 4}


@pytest.fixture(scope="module")
def runs(small_store: str, small_gnet8j: Path, tmp_path_factory: pytest.TempPathFactory, threads_client: Client) -> str:
    """GNet8j's predictions, and the data sets made of them."""
    folder = str(tmp_path_factory.mktemp("runs"))
    where = {"store": small_store, "runs": folder, "client": threads_client}
    shutil.copytree(small_gnet8j, f"{folder}/gnet8j")
    nsdflow.run("predict", **where, threads=1, images_per_task=40, batch_size=40)
    nsdflow.run("synthetic_data", **where)
    return folder


def signal_of(runs: str, store: str, subject: str) -> xr.DataArray:
    """Predictions of the images that the subject saw, each voxel z-scored over them."""
    predicted = nsdflow.open_run(f"{runs}/predict")[subject].to_dataset()["predictions"].load()
    seen = np.isin(predicted["nsd_id"], nsdflow.open_store(store).trials(subject)["nsd_id"])
    predicted = predicted[seen].astype(np.float64)
    return (predicted - predicted.mean("image")) / predicted.std("image")


def images_of(trials: xr.Dataset) -> set[tuple[int, ...]]:
    """The id of each image, and whether all subjects see it."""
    columns = (trials[name].values.tolist() for name in ("nsd_id", "subject_image", "shared"))
    return set(zip(*columns, strict=True))


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_without_noise_responses_are_the_signal(runs: str, small_store: str, subject: str) -> None:
    """Neither rounded nor scaled: a voxel of a small or negative gain has its signal too."""
    signal = signal_of(runs, small_store, subject)
    responses = nsdflow.open_store(f"{runs}/synthetic_data/noiseless.zarr").responses(subject, zscore=False).compute()
    assert responses.dtype == np.float32
    assert responses.shape == signal.shape
    row = np.searchsorted(signal["nsd_id"].values, responses["nsd_id"].values)
    np.testing.assert_allclose(responses, signal.values[row], rtol=1e-3, atol=1e-4)
    trials = load_trials(nsdflow.open_store(f"{runs}/synthetic_data/noiseless.zarr"), subject)
    np.testing.assert_array_equal(trials.responses, responses, "a pipeline takes them as they are")


@pytest.mark.parametrize("name", ["noiseless", "noise"])
def test_presentations_of_an_image_follow_each_other(runs: str, name: str) -> None:
    store = nsdflow.open_store(f"{runs}/synthetic_data/{name}.zarr")
    trials = store.trials("subj01")
    repeats = len(np.unique(trials["session"]))
    by_image = trials["nsd_id"].values.reshape(-1, repeats)
    assert (by_image == by_image[:, :1]).all()
    assert (np.diff(trials["subject_image"].values) >= 0).all(), "in the order of the subject's list"
    assert (trials["repetition"].values.reshape(-1, repeats) == np.arange(repeats)).all()
    training = trials["nsd_id"].values[~trials["shared"].values]
    holdout = last_trials_holdout(len(training), 0.1)
    assert len(np.intersect1d(training[holdout], training[~holdout])) <= 1, "at most the image at the border"


def test_with_noise_responses_have_the_variance_and_the_correlations_of_the_model(runs: str, small_store: str) -> None:
    signal = signal_of(runs, small_store, "subj01")
    model = nsdflow.open_run(f"{runs}/synthetic_data")["subj01"].to_dataset().load()
    store = nsdflow.open_store(f"{runs}/synthetic_data/noise.zarr")
    responses = store.responses("subj01", zscore=False).compute()
    assert responses.sizes["trial"] == 3 * signal.sizes["image"]
    row = np.array([np.flatnonzero(signal["nsd_id"].values == image)[0] for image in responses["nsd_id"].values])
    noise = responses.values - model["gain"].values * signal.values[row]
    covariance = model["mixing"].values @ model["mixing"].values.T
    # five times the sampling error of a covariance over this many trials
    spread = np.sqrt((covariance**2 + np.outer(*[np.diag(covariance)] * 2)) / len(noise))
    assert (abs(noise.T @ noise / len(noise) - covariance) <= 5 * spread + 1e-4).all()
    first, second = (noise[responses["repetition"] == number] for number in (0, 1))
    assert abs(np.mean(first * second)) < 0.1 * np.mean(first**2), "presentations have noise of their own"
    ceiling = nsdflow.analysis.noise_ceiling(store.voxels("subj01")["ncsnr"])
    np.testing.assert_allclose(ceiling, abs(model["planted_accuracy"]), atol=1e-5)
    np.testing.assert_allclose(
        accuracy(signal, responses).values, model["planted_accuracy"].values, atol=5 / np.sqrt(len(noise))
    )


def test_subjects_have_noise_of_their_own(runs: str, small_store: str) -> None:
    """The normal numbers of one presentation of the shared images, recovered by inverting the mixing."""
    drawn = []
    for subject in ("subj01", "subj02"):
        signal = signal_of(runs, small_store, subject)
        model = nsdflow.open_run(f"{runs}/synthetic_data")[subject].to_dataset().load()
        responses = nsdflow.open_store(f"{runs}/synthetic_data/noise.zarr").responses(
            subject, shared=True, zscore=False
        )
        responses = responses.compute()
        responses = responses[responses["repetition"].values == 0]
        responses = responses[np.argsort(responses["nsd_id"].values)]
        row = np.searchsorted(signal["nsd_id"].values, responses["nsd_id"].values)
        noise = responses.values - model["gain"].values * signal.values[row]
        drawn.append(noise @ np.linalg.pinv(model["mixing"].values[:, :8]).T)
    assert drawn[0].shape == drawn[1].shape
    assert drawn[0].shape[0] > 5
    np.testing.assert_allclose([one.std() for one in drawn], 1, atol=0.3)
    assert abs(np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1]) < 0.5


def test_stores_are_like_any_other(runs: str, small_store: str) -> None:
    source, run = nsdflow.open_store(small_store), Path(runs) / "synthetic_data"
    assert not list(run.glob("*.building"))
    for name, repeats in (("noiseless", 1), ("noise", 3)):
        store = nsdflow.open_store(f"{run}/{name}.zarr")
        tree = xr.open_datatree(f"{run}/{name}.zarr", engine="zarr")
        assert tree["subj01"]["betas"].dims == ("trial", "voxel")
        assert store.subjects == source.subjects
        assert store.attrs["synthetic"]["noise"] == (name == "noise")
        xr.testing.assert_identical(store.images().compute(), source.images().compute())
        for subject in store.subjects:
            trials, known = store.trials(subject), source.trials(subject)
            assert np.array_equal(np.unique(trials["session"], return_counts=True)[0], range(1, repeats + 1))
            seen, counts = np.unique(trials["nsd_id"], return_counts=True)
            np.testing.assert_array_equal(seen, np.unique(known["nsd_id"]))
            assert (counts == repeats).all()
            assert images_of(trials) == images_of(known)
            voxels, measured = store.voxels(subject), source.voxels(subject)
            np.testing.assert_array_equal(voxels["flat_index"], measured["flat_index"])
            assert voxels["roi"].attrs == measured["roi"].attrs
            assert voxels["flat_index"].attrs == measured["flat_index"].attrs
            assert ("ncsnr" in voxels) == (name == "noise")


@pytest.mark.parametrize("name", ["noiseless", "noise"])
def test_the_manifest_tells_stores_of_other_responses_apart(runs: str, name: str) -> None:
    store = Path(runs, "synthetic_data", f"{name}.zarr")
    said = json.loads((store / "manifest.json").read_text())["statistics"]
    for subject in ("subj01", "subj02"):
        group = zarr.open_group(store / subject, mode="r")
        arrays = [group[f"{kind}"][:] for kind in ("beta_mean", "beta_std", "valid", "saturated")]
        assert said[subject] == hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]
    assert len(set(said.values())) == 2


def test_images_are_linked_and_not_copied(runs: str, small_store: str) -> None:
    for name in ("noiseless", "noise"):
        ours = Path(runs) / "synthetic_data" / f"{name}.zarr" / "stimuli" / "images" / "c"
        files = [path for path in ours.rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert path.samefile(Path(small_store) / "stimuli" / "images" / "c" / path.relative_to(ours))


def test_an_interrupted_run_goes_on_with_what_is_missing(
    runs: str, small_store: str, tmp_path: Path, threads_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task fails in the middle; the second attempt writes only the missing values, which are the same."""
    started: list[str] = []
    fill = synthetic_stores.write_region

    def fails_once(array: ShardedArray, start: tuple[int, ...], values: np.ndarray) -> None:
        started.append(array.url)
        if len(started) == 3:
            raise OSError(28, "No space left on device")
        fill(array, start, values)

    monkeypatch.setattr(synthetic_stores, "write_region", fails_once)
    where = {"store": small_store, "runs": str(tmp_path), "client": threads_client}
    settings = {"predictions": f"{runs}/predict", "subjects": [2]}
    with pytest.raises(RunError, match="No space left"):
        nsdflow.run("synthetic_data", **where, **settings)
    assert not (tmp_path / "synthetic_data" / "results.zarr").exists()
    with pytest.raises(MissingDataError, match="unfinished build"):
        nsdflow.open_store(f"{tmp_path}/synthetic_data/noise.zarr")
    again = nsdflow.run("synthetic_data", **where, **settings)
    assert list(again.children) == ["subj02"]
    for name in ("noiseless", "noise"):
        ours, theirs = (nsdflow.open_store(f"{folder}/synthetic_data/{name}.zarr") for folder in (tmp_path, runs))
        xr.testing.assert_identical(
            ours.responses("subj02").compute().drop_attrs(), theirs.responses("subj02").compute().drop_attrs()
        )


def test_pipelines_run_on_the_data_set_of_an_earlier_step(runs: str, small_store: str, threads_client: Client) -> None:
    sequence = {
        "name": "again", "kind": "sequence",
        "steps": [
            {"pipeline": "synthetic_data"},
            {"pipeline": "gnet8r", "store": "synthetic_data/noise.zarr", "set": {"name": "r", "rois": ["V1", "V2"]}},
        ],
    }  # fmt: skip
    trees = nsdflow.run(
        sequence, store=small_store, runs=runs, client=threads_client,
        gnet8r={**GNET, "roi_groups": ["V1", "V2"], "subjects": [2]},
    )  # fmt: skip
    assert list(trees.children) == ["synthetic_data", "r"]
    trained = nsdflow.open_run(f"{runs}/r")["subj02"].to_dataset()
    planted = nsdflow.open_store(f"{runs}/synthetic_data/noise.zarr").voxels("subj02")
    np.testing.assert_allclose(
        trained["noise_ceiling"],
        nsdflow.analysis.noise_ceiling(planted["ncsnr"])[np.isin(planted["roi"], (1, 2, 3, 4))],
        atol=1e-6,
    )
    assert RunFolder(f"{runs}/r").record()["store"]["url"].endswith("synthetic_data/noise.zarr")


def test_predictions_must_be_of_images_that_were_shown(
    runs: str, small_store: str, tmp_path: Path, threads_client: Client
) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (80, 80)).save(tmp_path / "pictures" / "a.png")
    where = {"store": small_store, "runs": runs, "client": threads_client}
    nsdflow.run("predict", **where, name="files", images=str(tmp_path / "pictures"), threads=1)
    with pytest.raises(RunError, match="predicts files"):
        nsdflow.run("synthetic_data", **where, name="other", predictions="files")
    with pytest.raises(MissingDataError, match="no predictions in it"):
        nsdflow.run("synthetic_data", **where, name="other", predictions="gnet8j")
    with pytest.raises(ConfigError, match="names a folder"):
        nsdflow.run("synthetic_data", **where, datasets={"a b": {"repeats": 1}})


def test_the_plan_counts_files_and_bytes_before_anything_is_there(small_store: str, tmp_path: Path) -> None:
    plan = nsdflow.plan("synthetic_data", store=small_store, runs=str(tmp_path / "runs")).describe()
    stages = {line.split()[0]: line.split() for line in plan.splitlines()[3:]}
    assert stages["responses"][1] == "4"
    assert stages["create"][1] == "1"
    assert not (tmp_path / "runs").exists()
