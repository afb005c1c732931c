"""Published checkpoints become runs: predictions, analyses, and refusals."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.errors import ConfigError, MissingDataError, RunError, SelectionError, StoreError
from nsdflow.io.reach import writing
from nsdflow.io.tensors import load_tensors
from nsdflow.models.networks.alexnet import ALEXNET_LAYERS
from nsdflow.models.published import load_checkpoint
from nsdflow.names import LAYER_NAMES, subject_number
from nsdflow.pipelines.adopt import adopt
from nsdflow.pipelines.gnet.saved import load_gnet
from nsdflow.report import write_report
from nsdflow.report.compare import compare_published, compare_run_folders
from nsdflow.runs import parts
from nsdflow.runs.folder import RunFolder
from tests.pipelines.made_store import make_store, store_for

GOLDEN = Path(os.environ.get("NSDFLOW_GOLDEN", Path(__file__).parents[1] / "golden" / "data"))
JOINT, ONE_AREA = GOLDEN / "gnet8j_model_params.pt", GOLDEN / "gnet8r_model_params.pt"


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store, and a folder with the run of GNet8j's golden checkpoint."""
    folder = tmp_path_factory.mktemp("joint")
    store = store_for(folder / "nsd.zarr", JOINT)
    assert adopt([JOINT], store=store, runs=str(folder / "runs")) == [f"{folder}/runs/gnet8j"]
    return store, str(folder / "runs")


def test_the_run_holds_the_file(joint: tuple[str, str]) -> None:
    store, runs = joint
    model, run = load_checkpoint(JOINT), nsdflow.open_run(f"{runs}/gnet8j")
    for subject, readout in model.readouts.items():
        results, table = run[subject].to_dataset(), nsdflow.open_store(store).voxels(subject)
        rows = [list(model.flat_index[subject]).index(index) for index in results["flat_index"].values]
        np.testing.assert_array_equal(results["weights"], readout.weights.detach().numpy()[rows])
        np.testing.assert_array_equal(results["accuracy"], np.float32(model.validation_accuracy[subject][rows]))
        np.testing.assert_array_equal(results["holdout_accuracy_history"], model.holdout_accuracy[subject][:, rows])
        inside = np.isin(table["flat_index"], model.flat_index[subject])
        np.testing.assert_array_equal(results["flat_index"], table["flat_index"].values[inside])
        assert set(results["layer"].values) == set(nsdflow.names.LAYER_NAMES)
    history = run["history"].to_dataset()
    np.testing.assert_array_equal(history["train_loss"], model.train_loss)
    np.testing.assert_allclose(history.attrs["input_mean"], model.input_mean, rtol=1e-6)


@pytest.mark.usefixtures("blank_pictures")
def test_predict_tuning_and_report_work_on_it(joint: tuple[str, str], threads_client: Client) -> None:
    store, runs = joint
    small: dict[str, Any] = {"store": store, "runs": runs, "client": threads_client}
    predicted = nsdflow.run("predict", **small)
    model, opened = load_checkpoint(JOINT), nsdflow.open_store(store)
    for subject in model.readouts:
        found = predicted[subject].to_dataset()["predictions"]
        images = torch.from_numpy(opened.images(found["nsd_id"].values[:4]).values)
        rows = [list(model.flat_index[subject]).index(index) for index in found["flat_index"].values]
        expected = model.predict(images, subject).numpy()[:, rows]
        np.testing.assert_allclose(found[:4], expected, rtol=1e-4, atol=1e-5)
    tuned = nsdflow.run("tuning", bootstrap=4, **small)
    inside = np.isin(tuned["subj01"]["flat_index"], model.flat_index["subj01"])
    assert tuned["subj01"]["accuracy"].values[inside].mean() > 0.7, "the store's responses are what the file predicts"
    assert tuned["subj01"].to_dataset()["inclusion"].sizes["partition"] == 7
    assert "adopted from gnet8j_model_params.pt" in Path(write_report(f"{runs}/gnet8j")).read_text()


def test_a_second_run_of_that_name_is_refused(joint: tuple[str, str]) -> None:
    store, runs = joint
    with pytest.raises(RunError, match=r"gnet8j exists; give another name with --name"):
        adopt([JOINT], store=store, runs=runs)
    assert adopt([JOINT], store=store, runs=runs, name="again") == [f"{runs}/again"]
    with pytest.raises(ConfigError, match="are both of gnet8j, joint"):
        adopt([JOINT, JOINT], store=store, runs=runs, name="third")
    with pytest.raises(MissingDataError, match="no such file"):
        adopt(["absent.pt"], store=store, runs=runs)


def test_an_interrupted_adoption_continues_with_the_same_file(
    joint: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, runs = joint
    file = tmp_path / JOINT.name
    shutil.copy(JOINT, file)
    with monkeypatch.context() as patched:
        patched.setattr(parts, "write_results", full_disk)
        with pytest.raises(StoreError, match="no space left"):
            adopt([file], store=store, runs=str(tmp_path))
    file.write_bytes(JOINT.read_bytes() + b"\0")  # bytes after the archive change nothing in it
    with pytest.raises(RunError, match=rf"the file {file} holds other data"):
        adopt([file], store=store, runs=str(tmp_path))
    shutil.copy(JOINT, file)
    adopt([file], store=store, runs=str(tmp_path))
    again, whole = (nsdflow.open_run(f"{folder}/gnet8j") for folder in (tmp_path, runs))
    assert again.identical(whole)
    assert not (tmp_path / "gnet8j/parts").exists()


def full_disk(path: str, *_: object) -> None:
    with writing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_voxels_that_do_not_match_are_listed(tmp_path: Path) -> None:
    store = store_for(tmp_path / "nsd.zarr", JOINT, without=2)
    with pytest.raises(SelectionError, match="does not match") as caught:
        adopt([JOINT], store=store, runs=str(tmp_path / "runs"))
    model = load_checkpoint(JOINT)
    for subject, index in model.flat_index.items():
        assert f"{subject}: 2 of {len(index)} voxels are not in the store: flat_index {index[0]}, {index[1]}" in str(
            caught.value
        )
    assert not (tmp_path / "runs").exists()


def other_area(path: Path) -> Path:
    """The golden file of one area, relabelled as another area with the remaining voxels."""
    content = torch.load(ONE_AREA, weights_only=False)
    content["group_name"] = "V1" if content["group_name"] != "V1" else "V2"
    for subject, mask in content["group_mask"].items():
        rest = np.flatnonzero(~np.asarray(mask))
        content["group_mask"][subject] = ~np.asarray(mask)
        for params in ("best_params", "final_params"):
            heads = content[params]["fwrfs"][subject]
            take = torch.arange(len(rest)) % len(heads["b"])
            content[params]["fwrfs"][subject] = {name: value[take] for name, value in heads.items()}
        content["val_cc"][subject] = np.full(len(rest), 0.1, np.float32)
        content["hold_cc_history"][subject] = [np.full(len(rest), 0.2, np.float32) for _ in content["trn_loss_history"]]
    torch.save(content, path)
    return path


def transfer_file(path: Path, trunk: Path) -> Path:
    """Readouts of all early voxels on a trunk, as the synthetic notebook saves them: without ``voxel_index``."""
    content = torch.load(trunk, weights_only=False)
    for subject, mask in content.pop("group_mask").items():
        for params in ("best_params", "final_params"):
            heads = content[params]["fwrfs"][subject]
            take = torch.arange(len(mask)) % len(heads["b"])
            content[params]["fwrfs"][subject] = {name: value[take] for name, value in heads.items()}
        content["val_cc"][subject] = np.linspace(0, 1, len(mask), dtype=np.float32)
        content["hold_cc_history"][subject] = [np.zeros(len(mask), np.float32) for _ in content["trn_loss_history"]]
    for name in ("voxel_index", "voxel_mask", "brain_nii_shape"):
        del content[name]
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def areas(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store, and a folder with the runs of two trunks of GNet8r and of the readouts on them."""
    folder = tmp_path_factory.mktemp("areas")
    store, runs = store_for(folder / "nsd.zarr", ONE_AREA), str(folder / "runs")
    files = [ONE_AREA, other_area(folder / "model_params_other")]
    transfers = [transfer_file(folder / f"transfer_{i}", file) for i, file in enumerate(files)]
    with pytest.raises(MissingDataError, match="adopt the files of GNet8r with these"):
        adopt(transfers, store=store, runs=runs)
    assert adopt([*transfers, *files], store=store, runs=runs) == [f"{runs}/transfer", f"{runs}/gnet8r"]
    return store, runs


def test_gnet8r_and_its_transfer(areas: tuple[str, str], threads_client: Client) -> None:
    store, runs = areas
    model, run = load_checkpoint(ONE_AREA), nsdflow.open_run(f"{runs}/gnet8r")
    for subject, index in model.all_flat_index.items():
        results = run[subject].to_dataset()
        assert set(results["flat_index"].values.tolist()) == set(index.tolist())
        own = results.isel(voxel=np.flatnonzero(results["part"] == model.group))
        np.testing.assert_array_equal(np.sort(own["flat_index"]), np.sort(model.flat_index[subject]))
    predicted = nsdflow.run("predict", store=store, runs=runs, client=threads_client, model="gnet8r")
    subject = next(iter(model.readouts))
    found = predicted[subject].to_dataset()["predictions"]
    found = found[:3, np.flatnonzero(np.isin(found["flat_index"], model.flat_index[subject]))]
    images = torch.from_numpy(nsdflow.open_store(store).images(found["nsd_id"].values).values)
    rows = [list(model.flat_index[subject]).index(value) for value in found["flat_index"].values]
    np.testing.assert_allclose(found, model.predict(images, subject).numpy()[:, rows], rtol=1e-4, atol=1e-5)
    transfer = nsdflow.open_run(f"{runs}/transfer")
    data = transfer[subject].to_dataset()
    accuracy = data["transfer_accuracy"].sel(model=model.group)
    place = [list(model.all_flat_index[subject]).index(value) for value in accuracy["flat_index"].values]
    np.testing.assert_allclose(accuracy, np.linspace(0, 1, len(place), dtype=np.float32)[place])
    assert data["transfer_holdout_accuracy_history"].sizes["epoch"] == len(model.train_loss)
    kept = load_tensors(f"{runs}/transfer/model.safetensors")
    readout = torch.load(Path(runs).parent / "transfer_0", weights_only=False)["best_params"]["fwrfs"]
    np.testing.assert_array_equal(
        kept[f"{model.group}.readouts.{subject}.bias"], readout[subject_number(subject)]["b"].float()[place]
    )
    assert {"alpha", "transfer"} <= set(transfer["transfer"].to_dataset())


@pytest.mark.usefixtures("blank_pictures")
def test_tuning_of_adopted_trunks(areas: tuple[str, str], threads_client: Client) -> None:
    """The store's responses are predictions of the golden trunk plus noise; the other trunk's readouts predict none."""
    store, runs = areas
    small: dict[str, Any] = {"store": store, "runs": runs, "client": threads_client}
    tuned = nsdflow.run("tuning", **small, model="gnet8r", bootstrap=4)
    model = load_checkpoint(ONE_AREA)
    for subject, index in model.flat_index.items():
        data = tuned[subject].to_dataset()
        np.testing.assert_array_equal(data["flat_index"], nsdflow.open_run(f"{runs}/gnet8r")[subject]["flat_index"])
        inside = np.isin(data["flat_index"], index)
        assert np.median(data["accuracy"].values[inside]) > 0.5 > np.median(data["accuracy"].values[~inside])
        assert list(data["partition"].values) == list(LAYER_NAMES)
    assert "Shared and unique variance by layer" in Path(write_report(f"{runs}/tuning")).read_text()


@pytest.mark.usefixtures("blank_pictures")
def test_transfer_on_adopted_trunks(areas: tuple[str, str], threads_client: Client) -> None:
    """New readouts on the trunks of the files, which no step changes."""
    store, runs = areas
    model = load_checkpoint(ONE_AREA)
    trunks = [str(name) for name in nsdflow.open_run(f"{runs}/gnet8r")["history"]["part"].values]
    fitted = nsdflow.run(
        "transfer", store=store, runs=runs, client=threads_client, name="again", trunk_rois=trunks, bootstrap=0,
        threads=1, train={"epochs": 1},
    )  # fmt: skip
    subject = next(iter(model.readouts))
    assert fitted[subject].to_dataset()["transfer_accuracy"].sizes["model"] == len(trunks)
    kept = load_tensors(f"{runs}/again/model.safetensors")
    for name, tensor in model.encoder.state_dict().items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(kept[f"{model.group}.encoder.{name}"], tensor.float()), name
    assert "Transfer matrices" in Path(write_report(f"{runs}/again")).read_text()


def test_adopted_runs_are_compared(areas: tuple[str, str]) -> None:
    store, runs = areas
    adopt([ONE_AREA], store=store, runs=runs, name="one_trunk")
    text, page = compare_run_folders([f"{runs}/gnet8r", f"{runs}/one_trunk"])
    model = load_checkpoint(ONE_AREA)
    count = sum(len(index) for index in model.flat_index.values())
    (line,) = [line for line in text.splitlines() if line.split()[:2] == ["all", model.group]]
    assert line.split()[2] == str(count)
    assert "+0.000 (+0.000 to +0.000)" in line
    assert page.exists()
    assert "means nothing" in compare_published(f"{runs}/gnet8r")
    encoder = load_gnet(RunFolder(f"{runs}/one_trunk"), model.group).encoder
    assert torch.equal(encoder.trunk.c3.conv.weight, model.encoder.trunk.c3.conv.weight.float())


def test_alexnet_fwrf(tmp_path: Path, alexnet: Path, threads_client: Client) -> None:
    """A file in the published format, with chosen features and fields."""
    random, shape, voxels = np.random.default_rng(0), (6, 7, 8), 4
    index = np.array([40, 3, 77, 12])
    store = make_store(tmp_path / "nsd.zarr", {"subj02": (np.sort(index), np.ones(voxels), shape)}, size=227)
    kept = [
        np.sort(random.choice(count, size, replace=False)) for count, size in ((256, 256), (896, 896), (9192, 1536))
    ]
    kept[2] = np.concatenate([np.sort(random.choice(4096, 512, replace=False)),
                              4096 + np.sort(random.choice(4096, 512, replace=False)),
                              8192 + np.sort(random.choice(1000, 512, replace=False))])  # fmt: skip
    features = sum(map(len, kept))
    grid = np.load(GOLDEN / "pooling_grid.npz")["candidates"][[5, 900, 1500, 2600]]
    fitted = [grid.astype(np.float32), *(random.standard_normal((voxels, features)).astype(np.float32) for _ in "w")]
    fitted += [random.standard_normal(voxels).astype(np.float32), np.zeros((voxels, features), np.float32)]
    fitted += [np.full((voxels, features), 100, np.float32)]
    file = tmp_path / "model_params"
    torch.save({
        "subjects": [2], "holdout_frac": 0.1, "lmask": [np.array([0, 1]), np.array([2, 3, 4]), np.array([5, 6, 7])],
        "fmask": kept, "tuning_masks": [], "best_params": {2: fitted}, "val_cc": {2: np.array([0.1, 0.2, 0.3, np.nan])},
        "brain_nii_shape": {2: shape}, "voxel_index": {2: index}, "voxel_roi": {2: np.ones(4)},
    }, file)  # fmt: skip
    assert adopt([file], store=store, runs=str(tmp_path / "runs")) == [f"{tmp_path}/runs/alexnet_fwrf"]
    results = nsdflow.open_run(f"{tmp_path}/runs/alexnet_fwrf")["subj02"].to_dataset()
    assert results["flat_index"].values.tolist() == [3, 12, 40, 77]
    np.testing.assert_array_equal(results["accuracy"], np.float32([0.2, 0, 0.1, 0.3]))
    np.testing.assert_allclose(results["rf"], grid[[1, 3, 0, 2]], rtol=1e-6)
    assert results["layer"].values[0] == ALEXNET_LAYERS[0]
    assert (results["channel"].values == np.concatenate([
        np.arange(64), np.arange(192), np.arange(384), np.arange(256), np.arange(256),
        kept[2][:512], kept[2][512:1024] - 4096, kept[2][1024:] - 8192,
    ])).all()  # fmt: skip
    # the record may name the weights: AlexNet's own cannot be fetched here
    record = tmp_path / "runs" / "alexnet_fwrf" / "run.yaml"
    record.write_text(record.read_text().replace("feature_weights: null", f"feature_weights: {alexnet}"))
    predicted = nsdflow.run(
        "predict", store=store, runs=str(tmp_path / "runs"), client=threads_client, model="alexnet_fwrf"
    )
    assert np.isfinite(predicted["subj02"].to_dataset()["predictions"]).all()
    assert isinstance(predicted, xr.DataTree)
