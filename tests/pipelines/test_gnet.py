"""GNet pipelines on a small synthetic NSD: labelled results, resumption bit for bit, protocols and controls."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from dask.utils import format_bytes
from distributed import Client

import nsdflow
from nsdflow.cluster.deadline import DEADLINE
from nsdflow.errors import ConfigError, RunError, SelectionError
from nsdflow.fit.gnet.evaluate import predict
from nsdflow.io.tensors import load_tensors
from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import Prefilter
from nsdflow.models.saved.gnet import build_encoder, load_readouts
from nsdflow.models.saved.parts import below
from nsdflow.monitor.events import emit, read_log
from nsdflow.pipelines.gnet import training
from nsdflow.pipelines.gnet.saved import load_gnet
from nsdflow.pipelines.gnet.tasks import plan_gnet
from nsdflow.pipelines.run import resolve
from nsdflow.report import write_report
from nsdflow.runs.folder import RunFolder
from tests.interrupts import pretend_interrupt
from tests.same_run import assert_same_run
from tests.small_runs import AREAS, GNET8J, GNET8R


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def gnet8j(small_gnet8j: Path, runs: str) -> xr.DataTree:
    return nsdflow.open_run(shutil.copytree(small_gnet8j, f"{runs}/gnet8j"))


@pytest.fixture(scope="module")
def gnet8r(small_gnet8r: Path, runs: str) -> xr.DataTree:
    return nsdflow.open_run(shutil.copytree(small_gnet8r, f"{runs}/gnet8r"))


def test_results_are_labelled_as_designed(gnet8j: xr.DataTree, small_store: str) -> None:
    store = nsdflow.open_store(small_store)
    assert set(gnet8j.children) == {"subj01", "subj02", "history"}
    for subject in store.subjects:
        results = gnet8j[subject].to_dataset()
        assert results["weights"].dims == ("voxel", "feature")
        assert results["pooling_logits_0"].ndim == results["pooling_logits_1"].ndim == 3
        for name in ("accuracy", "accuracy_std", "noise_ceiling", "bias"):
            assert results[name].dims == ("voxel",)
            assert np.isfinite(results[name]).where(results["ncsnr"].notnull(), True).all()
        assert list(np.unique(results["layer"])) == sorted(nsdflow.names.LAYER_NAMES)
        np.testing.assert_array_equal(results["flat_index"], store.voxels(subject)["flat_index"])
        np.testing.assert_array_equal(results["roi"], store.voxels(subject)["roi"])
        ncsnr = results["ncsnr"].astype(np.float64)
        np.testing.assert_allclose(results["noise_ceiling"], np.sqrt(ncsnr**2 / (ncsnr**2 + 1)), rtol=1e-5)
    history = gnet8j["history"].to_dataset()
    assert dict(history.sizes) == {"epoch": 2, "subject": 2}
    assert history["train_loss"].values[-1] < history["train_loss"].values[0] * 1.1


def test_accuracy_is_that_of_the_saved_model(gnet8j: xr.DataTree, small_store: str, runs: str) -> None:
    """From the files alone, with a loop over voxels as the oracle."""
    store = nsdflow.open_store(small_store)
    saved = load_gnet(RunFolder(f"{runs}/gnet8j"))
    responses = store.responses("subj02", roi=["V1", "V2", "V3", "hV4"], shared=True).compute()
    images = torch.from_numpy(store.images(np.unique(responses["nsd_id"])).values)
    predictions = predict(saved.encoder, saved.readouts["subj02"], images).numpy()
    rows = np.searchsorted(np.unique(responses["nsd_id"]), responses["nsd_id"])
    expected = [
        np.corrcoef(predictions[rows, v], responses.values[:, v])[0, 1] for v in range(responses.sizes["voxel"])
    ]
    np.testing.assert_allclose(gnet8j["subj02"]["accuracy"], expected, atol=1e-5)


def test_every_trunk_starts_and_ends_elsewhere(gnet8r: xr.DataTree, runs: str) -> None:
    trunks = {part: load_gnet(RunFolder(f"{runs}/gnet8r"), part).encoder.trunk for part in AREAS}
    kernels = [trunk.c4a.conv.weight.detach().numpy().ravel() for trunk in trunks.values()]
    similar = np.corrcoef(kernels)[np.triu_indices(len(AREAS), 1)]
    assert np.abs(similar).max() < 0.1, "trunks that were drawn alike stay alike for an epoch"


def test_what_is_kept_of_a_training(gnet8j: xr.DataTree, runs: str) -> None:
    results, history = gnet8j["subj01"].to_dataset(), gnet8j["history"].to_dataset()
    by_epoch = results["holdout_accuracy_history"]
    assert by_epoch.dims == ("epoch", "voxel")
    best = history.attrs["best_epoch"]
    np.testing.assert_array_equal(by_epoch.sel(epoch=best), results["holdout_accuracy"])
    subjects = [gnet8j[name]["holdout_accuracy_history"].values for name in ("subj01", "subj02")]
    both = np.concatenate(subjects, axis=1)
    np.testing.assert_allclose(history["max_holdout_accuracy"], both.max(1), rtol=1e-6)
    np.testing.assert_allclose(history["holdout_accuracy"], np.median(both, axis=1), rtol=1e-5)
    last = load_gnet(RunFolder(f"{runs}/gnet8j"), which="final")
    assert last.readouts["subj01"].weights.shape == results["weights"].shape
    assert "of each subject's list that its trials show" in history.attrs["input_mean_over"]
    np.testing.assert_allclose(last.encoder.prefilter.mean.flatten(), history.attrs["input_mean"], rtol=1e-6)


def test_trials_of_an_image_can_be_averaged(small_store: str, tmp_path: Path, threads_client: Client) -> None:
    settings = {**GNET8J, "subjects": [2], "train": {"epochs": 1, "batch_size": 40}, "combine_trial": True}
    results = nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), client=threads_client, **settings)["subj02"]
    store = nsdflow.open_store(small_store)
    responses = store.responses("subj02", shared=True).compute()
    ids, counts = np.unique(responses["nsd_id"], return_counts=True)
    means = np.array([responses.values[responses["nsd_id"].values == image].mean(0) for image in ids])
    saved = load_gnet(RunFolder(f"{tmp_path}/gnet8j"))
    predictions = predict(saved.encoder, saved.readouts["subj02"], torch.from_numpy(store.images(ids).values)).numpy()
    expected = [np.corrcoef(predictions[:, v], means[:, v])[0, 1] for v in range(means.shape[1])]
    np.testing.assert_allclose(results["accuracy"], expected, atol=1e-5)
    ncsnr = results["ncsnr"].values.astype(np.float64)
    np.testing.assert_allclose(
        results["noise_ceiling"], np.sqrt(ncsnr**2 / (ncsnr**2 + (1 / counts).mean())), rtol=1e-5
    )


def test_a_finished_run_is_returned_and_not_repeated(
    gnet8j: xr.DataTree, small_store: str, runs: str, threads_client: Client
) -> None:
    before = Path(runs, "gnet8j", "log.jsonl").read_text()
    again = nsdflow.run("gnet8j", store=small_store, runs=runs, client=threads_client, **GNET8J)
    assert again.identical(gnet8j)
    assert Path(runs, "gnet8j", "log.jsonl").read_text() == before


def test_the_folder_of_another_run_is_left_alone(gnet8j: xr.DataTree, small_store: str, runs: str) -> None:
    with pytest.raises(RunError, match=r"holds a run with other settings \(seed was 0, now 1\)"):
        nsdflow.run("gnet8j", store=small_store, runs=runs, seed=1, **GNET8J)


def test_an_interrupted_run_continues_to_the_same_bits(
    gnet8j: xr.DataTree,
    small_store: str,
    runs: str,
    tmp_path: Path,
    threads_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pretend_interrupt(threads_client), pytest.raises(RunError, match="run the same command to continue"):
        nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), client=threads_client, **GNET8J)
    checkpoint = tmp_path / "gnet8j" / "checkpoint" / "joint.pt"
    assert not checkpoint.exists(), "nothing was trained before the interrupt"

    def interrupt(kind: str, **fields: Any) -> None:
        if kind == "epoch":
            monkeypatch.setenv(DEADLINE, "0")
        emit(kind, **fields)

    monkeypatch.setattr(training, "emit", interrupt)  # in the task itself: an event could come after the last epoch
    with pytest.raises(RunError, match="run the same command to continue"):
        nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), client=threads_client, **GNET8J)
    monkeypatch.undo()
    assert checkpoint.exists()
    nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), client=threads_client, **GNET8J)
    epochs = [event["epoch"] for event in read_log(tmp_path / "gnet8j" / "log.jsonl") if event["kind"] == "epoch"]
    assert epochs in ([1, 2], [1, 2, 2]), "the first epoch was not trained again"
    assert_same_run(Path(runs) / "gnet8j", tmp_path / "gnet8j")


def test_gnet8r_joins_the_rois_in_the_order_of_the_store(gnet8r: xr.DataTree, small_store: str, runs: str) -> None:
    store = nsdflow.open_store(small_store)
    for subject in store.subjects:
        results = gnet8r[subject].to_dataset()
        groups, voxels = nsdflow.names.ROI_GROUPS, store.voxels(subject)
        inside = np.isin(voxels["roi"], [label for area in AREAS for label in groups[area]])
        assert 0 < inside.sum() < len(inside)
        np.testing.assert_array_equal(results["flat_index"], voxels["flat_index"][inside])
        assert all(roi in groups[part] for roi, part in zip(results["roi"].values, results["part"].values, strict=True))
    assert gnet8r["history"].sizes["part"] == len(AREAS)
    assert not (Path(runs) / "gnet8r" / "parts").exists()
    v2 = load_gnet(RunFolder(f"{runs}/gnet8r"), "V2")
    own = gnet8r["subj01"].to_dataset().isel(voxel=gnet8r["subj01"]["part"].values == "V2")
    np.testing.assert_array_equal(own["weights"], v2.readouts["subj01"].weights.detach().numpy())
    with pytest.raises(SelectionError, match=r"unknown trunk .* available: V1, V2, hV4"):
        load_gnet(RunFolder(f"{runs}/gnet8r"), "V9")


def test_transfer_compares_with_the_own_trunk(
    gnet8r: xr.DataTree, small_store: str, runs: str, threads_client: Client
) -> None:
    settings = {**GNET8R, "frozen_trunk": "eval", "trunk_rois": AREAS, "subjects": [1]}
    for name in ("prefilter", "width", "roi_groups"):
        settings.pop(name)
    results = nsdflow.run("transfer", store=small_store, runs=runs, client=threads_client, **settings)
    subject = results["subj01"].to_dataset()
    np.testing.assert_array_equal(subject["accuracy"], gnet8r["subj01"]["accuracy"])
    matrix = results["transfer"]["transfer"].sel(subject="subj01", model="V1", roi="V2")
    v2 = np.isin(subject["roi"], nsdflow.names.ROI_GROUPS["V2"])
    expected = (subject["transfer_accuracy"].sel(model="V1").values[v2] - subject["accuracy"].values[v2]).mean()
    np.testing.assert_allclose(matrix, expected, rtol=1e-5)


@pytest.mark.usefixtures("blank_pictures")
def test_transfer_keeps_its_networks_and_every_epoch(
    gnet8r: xr.DataTree, small_store: str, tmp_path: Path, runs: str, threads_client: Client
) -> None:
    """The stored networks give the reported accuracies; the trunk has the statistics that drifted in train mode."""
    settings = {name: value for name, value in GNET8J.items() if name not in ("prefilter", "width")}
    where: dict[str, Any] = {"store": small_store, "runs": str(tmp_path), "client": threads_client}
    results = nsdflow.run(
        "transfer",
        **where,
        **settings,
        trunks=f"{runs}/gnet8r",
        trunk_rois=["V1", "hV4"],
        subjects=[2],
        rois=AREAS,
    )
    store, data = nsdflow.open_store(small_store), results["subj02"].to_dataset()
    assert data["transfer_holdout_accuracy_history"].dims == ("model", "epoch", "voxel")
    assert data.sizes["epoch"] == GNET8J["train"]["epochs"]
    state = load_tensors(f"{tmp_path}/transfer/model.safetensors")
    trials = store.responses("subj02", roi=AREAS, shared=True).compute()
    images = torch.from_numpy(store.images(trials["nsd_id"].values).values)
    for trunk in data["model"].values:
        kept = below(state, trunk)
        encoder, readout = build_encoder(kept, dropout=0.5), load_readouts(kept)["subj02"]
        predicted = predict(encoder, readout, images).numpy()
        expected = [np.corrcoef(p, r)[0, 1] for p, r in zip(predicted.T, trials.values.T, strict=True)]
        np.testing.assert_allclose(data["transfer_accuracy"].sel(model=trunk), expected, atol=1e-4)
        best = int(np.argmax(results["history"].sel(model=trunk)["holdout_accuracy"].values))
        np.testing.assert_array_equal(
            data["transfer_holdout_accuracy"].sel(model=trunk),
            data["transfer_holdout_accuracy_history"].sel(model=trunk).isel(epoch=best),
        )
        own = load_gnet(RunFolder(f"{runs}/gnet8r"), trunk).encoder.state_dict()
        assert {name for name, value in encoder.state_dict().items() if not torch.equal(value, own[name])} == {
            name for name in own if name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        }
        assert set(below(kept, "final.readouts.subj02")) == set(below(kept, "readouts.subj02"))
    assert "on the trunk of hV4" in write_report(tmp_path / "transfer").read_text()


def test_strict_protocol_and_shuffled_control_run(small_store: str, tmp_path: Path, threads_client: Client) -> None:
    for name, change in (("strict", {"protocol": "strict"}), ("shuffled", {"shuffle_images": True})):
        settings = {**GNET8J, **change, "subjects": [2], "train": {"epochs": 1, "batch_size": 40}, "name": name}
        results = nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), client=threads_client, **settings)
        assert np.isfinite(results["subj02"]["accuracy"]).all()


def test_dry_run_writes_nothing(small_store: str, tmp_path: Path) -> None:
    plan = nsdflow.plan("gnet8r", store=small_store, runs=str(tmp_path / "runs"), **GNET8J).describe()
    assert "train    4      gpu" in plan
    assert not (tmp_path / "runs").exists()


def test_mistakes_are_told_before_anything_runs(small_store: str, tmp_path: Path) -> None:
    where = {"store": small_store, "runs": str(tmp_path / "runs")}
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        nsdflow.run("gnet8j", **where, train={"epoch": 2})
    with pytest.raises(SelectionError, match=r"unknown subject 'subj07'; available: subj01, subj02"):
        nsdflow.run("gnet8j", **where, subjects=[7])
    with pytest.raises(SelectionError, match="unknown ROI"):
        nsdflow.run("gnet8j", **where, rois=["V9"])
    assert not (tmp_path / "runs").exists()


def test_without_alexnets_file_and_network_the_error_says_what_to_do(
    small_store: str, tmp_path: Path, threads_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = {**GNET8J, "prefilter": "alexnet", "prefilter_weights": str(tmp_path / "absent.pth")}
    with pytest.raises(FileNotFoundError, match=r"absent\.pth: no such file; give torchvision's alexnet"):
        nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), client=threads_client, **settings)


def test_bfloat16_is_as_accurate(gnet8j: xr.DataTree, small_store: str, threads_client: Client, tmp_path: Path) -> None:
    """Accuracies agree within bootstrap error, except for chance; the results record the arithmetic."""
    rounded = nsdflow.run(
        "gnet8j", store=small_store, runs=str(tmp_path), client=threads_client, precision="bfloat16", **GNET8J
    )
    assert [tree["history"].attrs["precision"] for tree in (gnet8j, rounded)] == ["float32", "bfloat16"]
    assert rounded["history"].attrs["prefilter_cache"] == "none"
    for subject in ("subj01", "subj02"):
        difference = rounded[subject]["accuracy"] - gnet8j[subject]["accuracy"]
        error = np.hypot(rounded[subject]["accuracy_std"], gnet8j[subject]["accuracy_std"])
        assert float(np.abs(difference).max()) > 0
        assert float((np.abs(difference) < 2 * error).mean()) > 0.9


def test_the_plan_says_whether_the_prefilter_output_is_kept(small_store: str, runs: str) -> None:
    images = nsdflow.open_store(small_store).images()
    pixels = gabor_prefilter_maps(images.shape[-1])
    half = images.sizes["image"] * 192 * pixels**2 * 2

    def planned(**settings: Any) -> tuple[str, int]:
        pipeline = resolve("gnet8j", settings)
        plan = plan_gnet(pipeline, store=small_store, folder=RunFolder.of(pipeline, runs))
        return plan.describe().splitlines()[-1], plan.tasks[0].memory

    nothing, least = planned(**{"train.prefilter_cache": "none"})
    assert nothing == "prefilter: computed once per batch"
    said, memory = planned()
    assert f"kept in float16 ({format_bytes(half)}) on a GPU where that takes at most 75%" in said
    assert memory == least
    said, memory = planned(**{"train.prefilter_cache": "full"})
    assert said == f"prefilter: output of all images kept in float32 ({format_bytes(2 * half)})"
    assert memory == least + 2 * half
    assert planned(precision="float32") == planned(device="cpu") == planned(train_prefilter=True) == (nothing, least)


def gabor_prefilter_maps(pixels: int) -> int:
    """Pixels of the prefilter's maps, from the prefilter itself."""
    prefilter = Prefilter(gabor_prefilter_weights(0))
    return int(prefilter(torch.zeros(1, 3, pixels, pixels, dtype=torch.uint8)).shape[-1])


def test_what_is_trained_is_not_kept() -> None:
    with pytest.raises(ConfigError, match=r"write train.prefilter_cache=none"):
        resolve("gnet8jft", {"train.prefilter_cache": "half"})
