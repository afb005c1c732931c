"""Features as labelled arrays: values of the layers, sharing by content, resumption, and user files."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client
from torch import nn

import nsdflow
from nsdflow.errors import ConfigError, NsdflowError, RunError
from nsdflow.models.networks import open_network
from nsdflow.models.networks.reduce import fit_pca, reduce_output, sparse_random
from nsdflow.pipelines.features import tasks
from nsdflow.pipelines.features.settings import FeaturesPipeline
from nsdflow.pipelines.features.source import open_features, write_features
from nsdflow.pipelines.fwrf import tasks as fwrf_tasks
from nsdflow.runs.folder import RunFolder


def own() -> nn.Module:
    """A small network."""
    return nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), nn.ReLU(), nn.Conv2d(4, 6, 3))


NETWORK = f"{__name__}:own"
SMALL: dict[str, Any] = {"features": NETWORK, "feature_weights": "random", "layers": ["0", "2"], "spatial": "grid(3)"}


def run(store: str, runs: Path, client: Client, **settings: Any) -> xr.DataTree:
    return nsdflow.run("features", store=store, runs=str(runs), client=client, **(SMALL | settings))


def test_features_are_those_of_the_layers(small_store: str, tmp_path: Path, threads_client: Client) -> None:
    tree = run(small_store, tmp_path, threads_client, subjects=[2], images_per_task=20)
    store = nsdflow.open_store(small_store)
    ids = np.unique(store.trials("subj02")["nsd_id"])
    network = open_network(NETWORK, "random", layers=["0", "2"])
    with torch.inference_mode():
        outputs = network(torch.from_numpy(store.images(ids).values))
    for layer, maps in zip(("0", "2"), outputs, strict=True):
        found = tree[layer]["features"]
        assert found.dims == ("image", "feature")
        np.testing.assert_array_equal(found["nsd_id"], ids)
        expected = nn.functional.adaptive_avg_pool2d(maps, 3).flatten(1)
        np.testing.assert_allclose(found.values, expected, atol=2e-5)
    assert tree.attrs["layers"] == ["0", "2"]


def test_the_same_content_is_linked_and_a_killed_run_goes_on(
    small_store: str, tmp_path: Path, threads_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    plain = tasks._features

    def counted(config: Any, store: Any, ids: Any, *rest: Any, **more: Any) -> Any:
        calls.append(len(ids))
        if config.name == "killed" and len(calls) == 3:
            raise KeyError("pulled the plug")
        return plain(config, store, ids, *rest, **more)

    monkeypatch.setattr(tasks, "_features", counted)
    with pytest.raises(RunError, match="pulled the plug"):
        run(small_store, tmp_path, threads_client, subjects=[1], images_per_task=16, name="killed")
    before = len(calls)
    whole = run(small_store, tmp_path, threads_client, subjects=[1], images_per_task=16, name="killed")
    blocks = -(-whole["0"].sizes["image"] // 16)
    assert len(calls) - before <= blocks - 1, "blocks that were done are not done again"
    calls.clear()
    linked = run(small_store, tmp_path, threads_client, subjects=[1], images_per_task=50, name="again")
    assert calls == [], "the features of another run were the same"
    fresh = run(small_store, tmp_path / "elsewhere", threads_client, subjects=[1], images_per_task=16)
    for layer in ("0", "2"):
        for other in (linked, fresh):
            np.testing.assert_array_equal(whole[layer]["features"].values, other[layer]["features"].values)
    shutil.rmtree(tmp_path / "killed")
    assert np.isfinite(nsdflow.open_run(tmp_path / "again")["2"]["features"].values).all()


def test_other_code_or_pixels_are_other_features(
    small_store: str, tmp_path: Path, threads_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, settings and weights are equal, but the code and the images differ."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # both files have the same size and second
    code = "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), nn.{})\n"
    layers = {"features": "nsdflow_changing:build", "layers": ["1"], "subjects": [2]}
    found = {}
    for name in ("ReLU()", "Tanh()"):
        (tmp_path / "nsdflow_changing.py").write_text(code.format(name))
        sys.modules.pop("nsdflow_changing", None)
        importlib.invalidate_caches()
        found[name] = run(small_store, tmp_path, threads_client, **layers, name=name[:4])["1"]["features"].values
    assert found["Tanh()"].min() < 0 <= found["ReLU()"].min()
    store, plain = nsdflow.open_store(small_store), tasks.load_images
    config = FeaturesPipeline(name="features", **{**SMALL, "subjects": [2]})
    content = tasks.content_hash(store, config)
    assert content == tasks.content_hash(store, config.model_copy(update={"name": "other"}))
    monkeypatch.setattr(tasks, "load_images", lambda *wanted: plain(*wanted) // 2)
    assert content != tasks.content_hash(store, config)


@pytest.mark.parametrize("kind", ["features", "gabor_fwrf"])
def test_an_unfinished_run_is_not_continued_with_other_code(
    small_store: str, tmp_path: Path, threads_client: Client, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    code = "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 9, stride=8), nn.{})\n"
    settings: dict[str, Any] = {"features": "nsdflow_edited:build", "subjects": [2], "threads": 1}
    fwrf = {"candidates": {"sizes": 2, "smallest": 0.2}, "lambdas": 2, "bootstrap": 2}
    settings |= fwrf if kind == "gabor_fwrf" else {"layers": ["1"]}

    def attempt(activation: str) -> xr.DataTree:
        (tmp_path / "nsdflow_edited.py").write_text(code.format(activation))
        sys.modules.pop("nsdflow_edited", None)
        importlib.invalidate_caches()
        return nsdflow.run(kind, store=small_store, runs=str(tmp_path), client=threads_client, **settings)

    module, publish = (tasks, "publish_results") if kind == "features" else (fwrf_tasks, "join_parts")
    with monkeypatch.context() as patched:
        patched.setattr(module, publish, lambda *_: 1 / 0)
        with pytest.raises(RunError, match="ZeroDivisionError"):
            attempt("ReLU()")
    with pytest.raises(RunError, match=r"began with another network nsdflow_edited:build \(other version\); choose"):
        attempt("Tanh()")
    assert attempt("ReLU()").children


@pytest.mark.parametrize("projection", ["sparse_random(7, 3)", "pca(6)"])
def test_projections(small_store: str, tmp_path: Path, threads_client: Client, projection: str) -> None:
    whole = run(small_store, tmp_path, threads_client, subjects=[2], name="whole")
    small = run(small_store, tmp_path, threads_client, subjects=[2], name="small", projection=projection)
    X, Z = (torch.from_numpy(tree["2"]["features"].values) for tree in (whole, small))
    if projection.startswith("sparse"):
        expected = sparse_random(X.shape[1], 7, 3)(X)
    else:
        shared = nsdflow.open_store(small_store).trials("subj02")
        validating = np.isin(whole["2"]["nsd_id"], shared["nsd_id"].values[shared["shared"].values.astype(bool)])
        training = X[torch.from_numpy(~validating)]
        _, _, V = torch.linalg.svd(training - training.mean(0), full_matrices=False)
        expected = (X - training.mean(0)) @ V[:6].T
        expected *= (expected * Z).sum(0).sign()
    torch.testing.assert_close(Z, expected, atol=1e-3, rtol=1e-3)


def test_reductions() -> None:
    maps, tokens = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 3)
    torch.testing.assert_close(reduce_output(maps, "max", "keep"), maps.amax((2, 3)))
    torch.testing.assert_close(reduce_output(maps, "grid(2)", "keep")[0, 1], maps[0, 0, :2, 2:].mean())
    torch.testing.assert_close(reduce_output(tokens, "mean", "cls"), tokens[:, 0])
    torch.testing.assert_close(reduce_output(tokens, "mean", "mean"), tokens.mean(1))
    few = torch.randn(4, 30)
    assert (fit_pca(few, 6)(few)[:, 3:].abs() < 1e-3).all(), "four images have three components"
    distances = torch.pdist(sparse_random(900, 400, 0)(torch.eye(900)[:40] * 30)) / (30 * 2**0.5)
    assert 0.85 < float(distances.mean()) < 1.15


def test_files_of_ones_own(tmp_path: Path) -> None:
    ids, values = np.array([9, 4, 70_000]), np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "clip.npy", values)
    np.save(tmp_path / "clip.nsd_id.npy", ids)
    np.savez(tmp_path / "both.npz", nsd_id=ids, a=values, b=-values)
    labelled = xr.DataArray(values, dims=("image", "feature"), coords={"nsd_id": ("image", ids)}, name="clip")
    labelled.to_netcdf(tmp_path / "clip.nc", engine="scipy")
    write_features(str(tmp_path / "clip.zarr"), labelled)
    turned = labelled.astype(np.float16).T.swap_dims(image="nsd_id").to_dataset()
    turned.to_zarr(tmp_path / "turned.zarr", zarr_format=2)
    turned.astype(np.float64).to_netcdf(tmp_path / "turned.nc", engine="scipy")
    folder = RunFolder(str(tmp_path / "runs" / "ridge"))
    held = {"clip.npy": 0, "clip.nc": 24, "clip.zarr": 0, "both.npz": 24, "turned.zarr": 0, "turned.nc": 48}
    for name, in_memory in held.items():
        tables = open_features(str(tmp_path / name), folder, check_values=True)
        table = next(iter(tables.values()))
        rows = table.rows_of(np.array([4, 9, 70_000]))
        np.testing.assert_array_equal(rows[:, 0:2], values[[1, 0, 2]])
        assert rows[:, 0:1].dtype == np.float32
        assert table.matrix.held_bytes == in_memory, "what a task holds is in its plan"
    tables = open_features(str(tmp_path / "both.npz"), folder)
    assert list(open_features(str(tmp_path / "both.npz"), folder)) == ["a", "b"]
    with pytest.raises(NsdflowError, match="lack image 5"):
        tables["a"].rows_of(np.array([4, 5]))


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        ([0, 1], [[1.0], [np.nan]], r"not finite in row 1 \(image 1\)"),
        ([0, 0], [[1.0], [2.0]], "different whole numbers"),
        ([0, 1, 2], [[1.0], [2.0]], r"shape \(2, 1\) for 3 values"),
        ([0, 73_000], [[1.0], [2.0]], "counts from 0 to 72999"),
    ],
)
def test_bad_files_get_one_line(tmp_path: Path, ids: list[int], values: list[list[float]], message: str) -> None:
    np.savez(tmp_path / "mine.npz", nsd_id=np.array(ids), a=np.array(values))
    with pytest.raises(NsdflowError, match=message) as raised:
        open_features(str(tmp_path / "mine.npz"), RunFolder(str(tmp_path / "r")), check_values=True)
    assert "\n" not in str(raised.value)


BAD_FILES = {
    "empty.npy": lambda path: path.write_bytes(b""),
    "cut.npz": lambda path: path.write_bytes(b"PK\x03\x04 and nothing more"),
    "objects.npy": lambda path: np.save(path, np.array([{}, []], dtype=object), allow_pickle=True),
    "text.npz": lambda path: np.savez(path, nsd_id=np.arange(2), a=np.array([["x"], ["y"]])),
    "nothing.npz": lambda path: np.savez(path, nsd_id=np.arange(2)),
    "narrow.npz": lambda path: np.savez(path, nsd_id=np.arange(2), a=np.zeros((2, 0))),
    "table.npz": lambda path: np.savez(path, nsd_id=np.arange(2)[:, None], a=np.zeros((2, 3))),
    "floats.npz": lambda path: np.savez(path, nsd_id=np.arange(2.0), a=np.zeros((2, 3))),
    "unnamed.npy": lambda path: np.save(path, np.zeros((2, 3))),
    "text.nc": lambda path: path.write_text("no netCDF"),
    "folder.zarr": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_are_no_features_get_one_line(tmp_path: Path, name: str) -> None:
    BAD_FILES[name](tmp_path / name)
    with pytest.raises(NsdflowError) as raised:
        open_features(str(tmp_path / name), RunFolder(str(tmp_path / "r")))
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)


def test_arrays_that_are_not_asked_for_may_be_anything(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", nsd_id=np.arange(2), a=np.ones((2, 3)), version=np.array(3))
    assert list(open_features(str(tmp_path / "mine.npz"), RunFolder(str(tmp_path / "r")), ["a"])) == ["a"]
    with pytest.raises(NsdflowError, match=r"write a path that ends in .zarr"):
        write_features(
            str(tmp_path / "mine"), xr.DataArray(np.ones((2, 3)), {"nsd_id": ("image", [0, 1])}, ("image", "f"))
        )


@pytest.mark.parametrize("wrong", [{"spatial": "grid(0)"}, {"projection": "pca"}, {"features": "nothing"}])
def test_wrong_settings_are_listed(small_store: str, tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        nsdflow.run("features", store=small_store, runs=str(tmp_path), **wrong)
