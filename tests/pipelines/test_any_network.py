"""Every pipeline that uses features accepts any network: of transformers, and of a user's function.

The runs are compared on the same voxels, exported for programs without torch, and loaded as torch modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client
from typer.testing import CliRunner

import nsdflow
from nsdflow.analysis import accuracy, compare_many
from nsdflow.cli.app import app
from nsdflow.pipelines.ridge.weights import open_weights
from nsdflow.runs.export import export_maps
from nsdflow.runs.folder import RunFolder

OWN = """
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(3, 4, 9, stride=4), nn.Tanh(), nn.Conv2d(4, 6, 3, stride=2))
"""
KINDS: dict[str, dict[str, Any]] = {
    "fwrf": {"candidates": {"sizes": 2, "smallest": 0.2, "largest": 0.4}, "lambdas": 2},
    "fpf": {"train": {"epochs": 1, "batch_size": 40}},
}
WHERE: dict[str, Any] = {"subjects": [2], "rois": ["V1", "V2"], "threads": 1, "bootstrap": 2}


@pytest.fixture(scope="module")
def runs(small_store: str, tmp_path_factory: pytest.TempPathFactory, threads_client: Client) -> Path:
    """Runs ``fwrf-own``, ``fpf-own``, ``fwrf-transformers``, ``fpf-transformers``, ``ridge`` and ``gnet8j``."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("any")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7, mlp_ratio=2
    )
    config.save_pretrained(folder / "tiny")
    (folder / "nsdflow_any_network.py").write_text(OWN)
    networks = {
        "own": {"features": "nsdflow_any_network:build", "layers": ("0", "2")},
        "transformers": {"features": f"transformers:{folder / 'tiny'}", "layers": ("layer1", "layer2")},
    }
    where: dict[str, Any] = {"store": small_store, "runs": str(folder), "client": threads_client}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for name, network in networks.items():
            for kind, settings in KINDS.items():
                chosen = network if kind == "fpf" else {"features": network["features"]}
                named = {"kind": kind, "name": f"{kind}-{name}", "feature_weights": "random", "seed": 3}
                nsdflow.run(named | dict(chosen) | settings | WHERE, **where)
        nsdflow.run("features", **where, **networks["own"], feature_weights="random", spatial="grid(3)")
        nsdflow.run("ridge", **where, **WHERE, lambdas=3, weights=True)
        nsdflow.run("gnet8j", **where, **WHERE, prefilter="gabor", width=4, train={"epochs": 1, "batch_size": 40})
        yield folder


@pytest.mark.parametrize("network", ["own", "transformers"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_the_saved_model(kind: str, network: str, runs: Path, small_store: str) -> None:
    """The torch module alone, on the store's images, has the accuracy that the run recorded."""
    run = runs / f"{kind}-{network}"
    results, store = nsdflow.open_run(run)["subj02"].to_dataset(), nsdflow.open_store(small_store)
    record = RunFolder(str(run)).record()["network"]
    expected = ["0", "2"] if network == "own" else ["layer0", "layer1", "layer2", "pooled"]
    expected = expected[1:3] if kind == "fpf" and network == "transformers" else expected
    assert record["layers"] == expected
    assert set(results["layer"].values.tolist()) == set(expected)
    assert record["version"].startswith("torch" if network == "own" else "transformers")
    assert len(record["weights_sha256"]) == 64
    assert record["preprocessing"]["size"] == (None if network == "own" else 28)
    measured = store.responses("subj02", roi=["V1", "V2"], shared=True).compute()
    ids = np.unique(measured["nsd_id"])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(runs)
        model = nsdflow.load_model(run, "subj02")
    predicted = measured[: len(ids)].copy(data=model(torch.from_numpy(store.images(ids).values)).numpy())
    predicted = predicted.drop_vars(list(predicted.coords)).rename(trial="image").assign_coords(nsd_id=("image", ids))
    np.testing.assert_allclose(accuracy(predicted, measured), results["accuracy"], atol=2e-3)


FAMILIES: dict[str, dict[str, Any]] = {
    "clip": {"vision_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
                               "patch_size": 7, "intermediate_size": 32}},
    "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 7,
            "intermediate_size": 32},
    "resnet": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_transformers_from_features_to_ridge(
    family: str, small_store: str, tmp_path: Path, threads_client: Client
) -> None:
    """Configurations with random weights; DINOv2 is in the other tests."""
    transformers = pytest.importorskip("transformers")
    transformers.CONFIG_MAPPING[family](**FAMILIES[family]).save_pretrained(tmp_path / "tiny")
    where: dict[str, Any] = {"store": small_store, "runs": str(tmp_path), "client": threads_client}
    network = {
        "features": f"transformers:{tmp_path / 'tiny'}",
        "feature_weights": "random",
        "layers": ["layer1", "pooled"],
    }
    features = nsdflow.run("features", **where, **network, subjects=[2], tokens="mean", spatial="grid(2)")
    width = 8 if family == "resnet" else 16
    assert features["pooled"]["features"].shape[1] == width
    assert features["layer1"]["features"].shape[1] == (16 if family == "resnet" else width)
    results = nsdflow.run("ridge", **where, **WHERE, lambdas=2)["subj02"].to_dataset()
    assert set(results["best_layer"].values.tolist()) <= {"layer1", "pooled"}
    assert np.isfinite(results["accuracy"]).all()
    assert "transformers" in (tmp_path / "ridge" / "README.md").read_text()


NAMES = ("gnet8j", "ridge", "fwrf-own", "fpf-transformers")


def test_every_kind_has_its_card(runs: Path) -> None:
    for name in (*NAMES, "features"):
        card = (runs / name / "README.md").read_text()
        assert f"- kind: {name.partition('-')[0].removesuffix('8j')};" in card
        assert ("| subj02 |" in card) == (name != "features")
        assert "NSD terms" in card


def test_kinds_are_compared_on_the_same_voxels(runs: Path, tmp_path: Path) -> None:
    trees = {name: nsdflow.open_run(runs / name) for name in NAMES}
    table = compare_many(trees, resamples=20).sel(subject="subj02", roi="all")
    values = np.stack([tree["subj02"]["accuracy"].values for tree in trees.values()])
    assert int(table["voxels"]) == values.shape[1] > 20
    np.testing.assert_allclose(table["difference"], (values - values[0]).mean(1), atol=1e-6)
    np.testing.assert_allclose(table["best"], 100 * np.bincount(values.argmax(0), minlength=4) / values.shape[1])
    page = tmp_path / "compare.html"
    done = CliRunner().invoke(app, ["compare", *(str(runs / name) for name in NAMES), "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert all(name in done.output for name in NAMES)
    assert page.stat().st_size > 10_000


@pytest.mark.parametrize("name", NAMES)
def test_npz_holds_everything_by_voxel(name: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsdflow.runs.export.EXPORT_BLOCK_BYTES", 5000)
    results = nsdflow.open_run(runs / name)["subj02"].to_dataset()
    expected = {str(key): one for key, one in results.data_vars.items() if "voxel" in one.dims}
    if name == "ridge":
        expected |= {f"weights_{layer}": open_weights(str(runs / name), "subj02", layer) for layer in ("0", "2")}
    export_maps(str(runs / name), tmp_path, "npz")
    exported = {path.stem.removeprefix("subj02_"): path for path in tmp_path.glob("subj02_*.npz")}
    assert set(exported) == set(expected)
    for key, path in exported.items():
        with np.load(path) as file:
            assert tuple(file["dims"]) == expected[key].dims
            np.testing.assert_array_equal(file["values"], expected[key].values)
            np.testing.assert_array_equal(file["flat_index"], results["flat_index"])
    if name != "ridge":
        with np.load(exported["weights"]) as file:
            assert file["layer"].tolist() == results["layer"].values.tolist()
