"""Ridge and banded ridge predict any image: out of core from dual coefficients, and as a torch module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.analysis import accuracy
from nsdflow.errors import MissingDataError, NsdflowError, RunError
from nsdflow.pipelines.predict.predictors import load_predictor
from nsdflow.runs.export import export_maps
from nsdflow.runs.folder import RunFolder
from tests.alone import predict_alone

OWN = """
from torch import nn

from nsdflow.models.networks.network import Preprocessing


def build():
    network = nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), nn.Tanh(), nn.Conv2d(4, 6, 3))
    network.preprocessing = Preprocessing(size=60, interpolation="bilinear")
    return network
"""
FEATURES: dict[str, Any] = {
    "features": "nsdflow_own_network:build", "feature_weights": "random", "layers": ["0", "2"], "spatial": "grid(3)",
    "seed": 3, "images_per_task": 200,
}  # fmt: skip
SMALL: dict[str, Any] = {"lambda_min": 1e1, "lambda_max": 1e5, "lambdas": 4, "bootstrap": 2, "rois": ["V1", "V2"]}
BLOCKS: dict[str, Any] = {"images_per_task": 40, "batch_size": 20, "subjects": [2]}


@pytest.fixture(scope="module")
def folder(small_store: str, tmp_path_factory: pytest.TempPathFactory, threads_client: Client) -> Path:
    """Runs ``features`` and ``pca`` of a network in a user module, and ``ridge`` and ``banded`` on them."""
    folder = tmp_path_factory.mktemp("linear")
    (folder / "nsdflow_own_network.py").write_text(OWN)
    where: dict[str, Any] = {"store": small_store, "runs": str(folder), "client": threads_client}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        nsdflow.run("features", **where, **FEATURES)
        nsdflow.run("features", **where, **FEATURES, name="pca", projection="pca(5)")
        nsdflow.run("ridge", **where, **SMALL, subjects=[2], voxels_per_task=9)
        if not is_missing("himalaya"):
            bands = {"low": {"features": "features", "layer": "0"}, "high": {"features": "pca", "layer": "2"}}
            banded = {"kind": "banded_ridge", "name": "banded", "bands": bands, "subjects": [2], "protocol": "strict"}
            nsdflow.run(banded | SMALL | {"iterations": 4, "folds": 3, "voxels_per_task": 9}, **where)
        yield folder


def is_missing(library: str) -> bool:
    from importlib.util import find_spec

    return find_spec(library) is None


@pytest.mark.parametrize("name", ["ridge", "banded"])
def test_any_image_is_predicted(
    name: str, folder: Path, small_store: str, threads_client: Client, tmp_path: Path
) -> None:
    if name == "banded":
        pytest.importorskip("himalaya")
    where: dict[str, Any] = {"store": small_store, "runs": str(folder), "client": threads_client}
    found = nsdflow.run("predict", **where, **BLOCKS, name=f"{name}_everywhere", model=name)["subj02"]["predictions"]
    store, fitted = nsdflow.open_store(small_store), nsdflow.open_run(folder / name)["subj02"].to_dataset()
    there = np.isin(store.voxels("subj02")["flat_index"], fitted["flat_index"])
    measured = store.responses("subj02", voxels=np.flatnonzero(there), shared=True).compute()
    predicted = xr.DataArray(found.values, dims=("image", "voxel"), coords={"nsd_id": found["nsd_id"]})
    again = accuracy(predicted.sel(image=np.isin(found["nsd_id"], measured["nsd_id"])), measured)
    # strict z-scores use training trials alone: the same up to a scale per session
    np.testing.assert_allclose(again, fitted["accuracy"], atol=0.05)
    images = torch.from_numpy(store.images(found["nsd_id"].values[:6]).values)
    alone = predict_alone(folder / name, "subj02", images, tmp_path, folder)
    np.testing.assert_allclose(alone, found.values[:6], atol=2e-4)
    assert "nsdflow.load_model" in (folder / name / "README.md").read_text()
    exported = {path.stem for path in export_maps(str(folder / name), tmp_path / "maps", "npz")}
    assert {"subj02_accuracy", "subj02_lambda" if name == "ridge" else "subj02_delta"} <= exported
    predictor = load_predictor(RunFolder(str(folder / name)), "subj02")
    predictor.check_size(images[:, :, :40, :40])  # the network resizes its images
    with pytest.raises(RunError, match="7 features of these images"):
        predictor.terms[0].check(torch.zeros(1, 7))


def test_runs_record_their_networks(folder: Path) -> None:
    pytest.importorskip("himalaya")
    tree = nsdflow.open_run(folder / "ridge")["subj02"].to_dataset()
    both = set(tree["best_layer"].values.tolist())
    assert both == {"0", "2"}, "otherwise one layer alone is tested"
    record = RunFolder(str(folder / "ridge")).record()
    assert record["network"]["layers"] == ["0", "2"]
    assert record["network"]["preprocessing"]["size"] == 60
    banded = RunFolder(str(folder / "banded")).record()["network"]
    assert banded["features"]["weights_sha256"] == banded["pca"]["weights_sha256"]


def test_features_of_a_file_predict_their_images_alone(
    small_store: str, tmp_path: Path, threads_client: Client
) -> None:
    store = nsdflow.open_store(small_store)
    ids = store.images()["nsd_id"].values
    values = np.random.default_rng(0).standard_normal((len(ids), 20)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", nsd_id=ids, mine=values)
    where: dict[str, Any] = {"store": small_store, "runs": str(tmp_path), "client": threads_client}
    nsdflow.run("ridge", **where, **SMALL, subjects=[2], features=str(tmp_path / "mine.npz"))
    with pytest.raises(MissingDataError, match="weights=true"):
        nsdflow.load_model(tmp_path / "ridge")
    predictor = load_predictor(RunFolder(str(tmp_path / "ridge")), "subj02")
    images = torch.zeros(4, 3, 67, 67, dtype=torch.uint8)
    found = predictor.predict(images, batch_size=2, nsd_id=ids[[3, 1, 2, 3]])
    np.testing.assert_array_equal(found[0], found[3])
    assert not np.allclose(found[0], found[1])
    with pytest.raises(NsdflowError, match="features come from a file"):
        predictor.predict(images, batch_size=2)
