"""Predictions of runs on pretrained networks: same bits as in memory, and the accuracy of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.analysis import accuracy
from nsdflow.errors import RunError
from nsdflow.fit.fwrf.features import transformed
from nsdflow.fit.split import image_holdout
from nsdflow.models.networks import open_network
from nsdflow.models.networks.alexnet import ALEXNET_LAYERS, AlexNet
from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from nsdflow.models.pooling import pooling_weights
from nsdflow.pipelines.predict.predictors import load_predictor
from nsdflow.runs.folder import RunFolder
from tests.alone import predict_alone

BLOCKS: Mapping[str, Any] = {"images_per_task": 40, "batch_size": 20, "threads": 1}
FWRF: Mapping[str, Any] = {
    "candidates": {"sizes": 2, "smallest": 0.2, "largest": 0.4}, "lambdas": 3, "threads": 1, "bootstrap": 2,
}  # fmt: skip
ALEXNET: Mapping[str, Any] = {"max_features_per_layer": 20, "subjects": [1]}


@pytest.fixture(scope="module")
def runs(
    small_store: str, tmp_path_factory: pytest.TempPathFactory, alexnet: Path, threads_client: Client
) -> dict[str, xr.DataTree]:
    """A run of each kind, by name; the attribute ``folder`` is their place."""
    folder = str(tmp_path_factory.mktemp("runs"))
    where: dict[str, Any] = {"store": small_store, "runs": folder, "client": threads_client}
    trees = {
        "gabor_fwrf": nsdflow.run(
            "gabor_fwrf", **where, features="gabor_low", nonlinearity="log", subjects=[2], **FWRF,
        ),
        "alexnet_fwrf": nsdflow.run("alexnet_fwrf", **where, feature_weights=str(alexnet), **FWRF, **ALEXNET),
        "alexnet_fpf": nsdflow.run(
            "alexnet_fpf", **where, feature_weights=str(alexnet), **ALEXNET,
            threads=1, bootstrap=2, train={"epochs": 1, "batch_size": 40},
        ),
    }  # fmt: skip
    for tree in trees.values():
        tree.attrs["folder"] = folder
    return trees


@pytest.mark.parametrize("name", ["gabor_fwrf", "alexnet_fwrf", "alexnet_fpf"])
def test_out_of_core_is_in_memory_and_what_the_run_was_scored_with(
    name: str, runs: dict[str, xr.DataTree], small_store: str, threads_client: Client
) -> None:
    folder = runs[name].attrs["folder"]
    tree = nsdflow.run(
        "predict",
        store=small_store,
        runs=folder,
        client=threads_client,
        name=f"{name}_everywhere",
        model=name,
        **BLOCKS,
    )
    store = nsdflow.open_store(small_store)
    subjects = [child for child in runs[name].children if child.startswith("subj")]
    assert set(tree.children) == set(subjects)
    for subject in subjects:
        found, fitted = tree[subject]["predictions"], runs[name][subject].to_dataset()
        images = torch.from_numpy(store.images(found["nsd_id"].values).values)
        assert len(images) > BLOCKS["images_per_task"]
        expected = load_predictor(RunFolder(f"{folder}/{name}"), subject).predict(images, batch_size=20)
        np.testing.assert_array_equal(found.values, expected)
        np.testing.assert_array_equal(found["flat_index"], fitted["flat_index"])
        there = np.isin(store.voxels(subject)["flat_index"], fitted["flat_index"])
        measured = store.responses(subject, voxels=np.flatnonzero(there), shared=True).compute()
        predicted = xr.DataArray(found.values, dims=("image", "voxel"), coords={"nsd_id": found["nsd_id"]})
        again = accuracy(predicted.sel(image=np.isin(found["nsd_id"], measured["nsd_id"])), measured)
        np.testing.assert_allclose(again, fitted["accuracy"], atol=1e-4)


def test_the_formula_spelled_out_from_the_labelled_results(
    runs: dict[str, xr.DataTree], small_store: str, threads_client: Client
) -> None:
    """Pool, transform, z-score and weight, with plain sums over the arrays of ``results.zarr``."""
    fitted, store = runs["gabor_fwrf"]["subj02"].to_dataset(), nsdflow.open_store(small_store)
    images = torch.from_numpy(store.images().values[:7])
    layers = [maps.double() for maps in open_network("gabor_low")(images)]
    found = load_predictor(RunFolder(f"{runs['gabor_fwrf'].attrs['folder']}/gabor_fwrf"), "subj02").predict(
        images, batch_size=7
    )
    names = list(dict.fromkeys(fitted["layer"].values.tolist()))
    for voxel in (0, 3, 11):
        one = fitted.isel(voxel=voxel)
        features = []
        for layer, channel in zip(one["layer"].values, one["channel"].values, strict=True):
            maps = layers[names.index(layer)][:, channel]
            features.append((maps * pooling_weights(one["rf"].values[None], maps.shape[-1])[0]).sum((1, 2)))
        pooled = transformed(torch.stack(features, dim=1), "log").numpy()
        scored = (pooled - one["feature_mean"].values) / one["feature_std"].values
        expected = scored @ one["weights"].values + float(one["bias"])
        np.testing.assert_allclose(found[:, voxel], expected, atol=2e-3 * expected.std())


def test_channels_of_the_strict_protocol_are_chosen_on_training_images(
    small_store: str, tmp_path: Path, alexnet: Path, threads_client: Client
) -> None:
    tree = nsdflow.run(
        "alexnet_fwrf", store=small_store, runs=str(tmp_path), client=threads_client, feature_weights=str(alexnet),
        protocol="strict", **FWRF, **ALEXNET,
    )  # fmt: skip
    found, store = tree["subj01"].to_dataset(), nsdflow.open_store(small_store)
    trials = store.trials("subj01")
    shown = trials["nsd_id"].values[~trials["shared"].values.astype(bool)]
    fitted = np.unique(shown[~image_holdout(shown, 0.1)])
    assert len(fitted) < len(np.unique(shown))
    with torch.no_grad():
        layers = AlexNet(torch.load(alexnet, weights_only=True))(torch.from_numpy(store.images(fitted).values))
    for number, name in enumerate(ALEXNET_LAYERS):
        maps = layers[number].double()
        variance = maps.square().mean((0, 2, 3)) - maps.mean((2, 3)).mean(0) ** 2
        expected = variance.argsort(descending=True)[:20].sort().values
        np.testing.assert_array_equal(found["channel"].values[found["layer"].values == name], expected)


def test_channels_are_places_in_their_layers(runs: dict[str, xr.DataTree], alexnet: Path) -> None:
    fitted = runs["alexnet_fwrf"]["subj01"].to_dataset()
    for name, shape in zip(dict.fromkeys(fitted["layer"].values.tolist()), ALEXNET_SHAPES.values(), strict=True):
        channels = fitted["channel"].values[fitted["layer"].values == name]
        assert len(channels) == len(set(channels.tolist())) == 20
        assert 0 <= channels.min() <= channels.max() < shape[0]


def test_mistakes_are_one_clear_line(runs: dict[str, xr.DataTree], small_store: str, threads_client: Client) -> None:
    folder = runs["gabor_fwrf"].attrs["folder"]
    where: dict[str, Any] = {"store": small_store, "runs": folder, "client": threads_client}
    predictor = load_predictor(RunFolder(f"{folder}/gabor_fwrf"), "subj02")
    with pytest.raises(RunError, match=r"fitted on images of 67 pixels, not 99; use the store"):
        predictor.check_size(torch.zeros(1, 3, 99, 99, dtype=torch.uint8))
    nsdflow.run("predict", **where, name="first", model="gabor_fwrf", subjects=[2], **BLOCKS)
    with pytest.raises(RunError, match="is a run of kind predict; one of kind gnet or fpf or fwrf or ridge or "):
        nsdflow.run("predict", **where, name="second", model="first", **BLOCKS)


def test_runs_of_before_say_what_they_lack(
    runs: dict[str, xr.DataTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs["gabor_fwrf"].attrs["folder"]
    monkeypatch.setattr(
        "nsdflow.pipelines.predict.predictors.open_run",
        lambda _: xr.DataTree.from_dict({"subj02": runs["gabor_fwrf"]["subj02"].to_dataset().drop_vars("channel")}),
    )
    with pytest.raises(RunError, match="does not say which channels it reads; run it again"):
        load_predictor(RunFolder(f"{folder}/gabor_fwrf"), "subj02")


@pytest.mark.parametrize("name", ["gabor_fwrf", "alexnet_fwrf", "alexnet_fpf"])
def test_a_saved_model_predicts_alone(
    name: str, runs: dict[str, xr.DataTree], small_store: str, tmp_path: Path
) -> None:
    run = f"{runs[name].attrs['folder']}/{name}"
    (subject,) = (child for child in runs[name].children if child.startswith("subj"))
    images = torch.from_numpy(nsdflow.open_store(small_store).images().values[:6])
    expected = load_predictor(RunFolder(run), subject).predict(images, batch_size=6)
    np.testing.assert_allclose(predict_alone(run, subject, images, tmp_path), expected, atol=1e-3 * expected.std())
    network = RunFolder(run).record()["network"]
    assert network["name"] == ("gabor_low" if name == "gabor_fwrf" else "alexnet")
    assert len(network["weights_sha256"]) == 64
    assert "nsdflow.load_model" in Path(run, "README.md").read_text()
