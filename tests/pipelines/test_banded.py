"""Banded ridge in blocks of voxels gives the numbers of himalaya called directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.errors import NsdflowError
from nsdflow.fit.zscoring import zscore_on
from nsdflow.report import write_report

pytest.importorskip("himalaya")

SEARCH = {"lambda_min": 1.0, "lambda_max": 1e4, "lambdas": 4, "iterations": 6, "folds": 3}
SMALL: dict[str, Any] = {**SEARCH, "bootstrap": 2}


@pytest.fixture(scope="module")
def features(small_store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = nsdflow.open_store(small_store)
    ids = np.unique(np.concatenate([store.trials(subject)["nsd_id"].values for subject in store.subjects]))
    images = store.images(ids).values
    path = tmp_path_factory.mktemp("features") / "bands.npz"
    small = images[:, :, ::12, ::12].reshape(len(ids), -1).astype(np.float32)
    np.savez(path, nsd_id=ids, pixels=small, edges=np.abs(np.diff(small, axis=1)))
    return path


def run(store: str, runs: Path, client: Client, features: Path, **settings: Any) -> xr.Dataset:
    bands = {name: {"features": str(features), "layer": name} for name in ("pixels", "edges")}
    pipeline = {"kind": "banded_ridge", "name": "banded", "bands": bands, "subjects": [2], "rois": ["V1", "V2"]}
    pipeline |= {"protocol": "strict", **SMALL, **settings}
    return nsdflow.run(pipeline, store=store, runs=str(runs), client=client)["subj02"].to_dataset()


@pytest.mark.parametrize("averaged", [False, True])
def test_numbers_of_himalaya_called_directly(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path, averaged: bool
) -> None:
    """himalaya on single trials, or on averaged images with ``combine_trial``."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
    from sklearn.model_selection import KFold

    settings = {"voxels_per_task": 9, "predictions": True, "combine_trial": averaged}
    found = run(small_store, tmp_path, threads_client, features, **settings)
    set_backend("torch")
    lazy = nsdflow.open_store(small_store).responses("subj02", roi=["V1", "V2"], zscore=False).compute()
    shared, ids = lazy["shared"].values.astype(bool), lazy["nsd_id"].values
    responses = zscore_on(lazy.values, lazy["session"].values, ~shared)
    images = np.unique(ids[~shared])
    shown, Y = ids[~shared], responses[~shared]
    assert len(images) < len(shown), "otherwise no image is shown twice"
    if averaged:
        shown, Y = images, np.stack([responses[ids == image].mean(0) for image in images])
    split = KFold(3, shuffle=True, random_state=0).split(images)
    folds = [tuple(np.flatnonzero(np.isin(shown, images[part])) for part in parts) for parts in split]
    with np.load(features) as file:
        spaces = [file[name].astype(np.float64) for name in ("pixels", "edges")]
        places = [np.searchsorted(file["nsd_id"], wanted) for wanted in (shown, np.unique(ids[shared]))]
    kernels, crosses = [], []
    for X in spaces:
        train, held = X[places[0]], X[places[1]]
        std = np.where(train.std(0) > 0, train.std(0), 1)
        Z, H = (train - train.mean(0)) / std, (held - train.mean(0)) / std
        kernels.append(Z @ Z.T)
        crosses.append(H @ Z.T)
    deltas, dual, _ = solve_multiple_kernel_ridge_random_search(
        torch.from_numpy(np.stack(kernels)).float(), torch.from_numpy(Y - Y.mean(0)).float(), n_iter=6,
        alphas=torch.from_numpy(np.geomspace(1.0, 1e4, 4)).float(), cv=folds,
        return_weights="dual", random_state=0, progress_bar=False,
    )  # fmt: skip
    # a fold's error is a mean over images, or over trials: where two weightings are equally good, they may differ
    same = np.isclose(found["delta"], deltas, rtol=1e-3, atol=1e-3).all(0)
    assert same.all() if averaged else same.mean() > 0.9
    parts = np.stack([cross @ dual.numpy() * np.exp(d) for cross, d in zip(crosses, deltas.numpy(), strict=True)])
    found, parts, responses = found.isel(voxel=same), parts[..., same], responses[:, same]
    np.testing.assert_allclose(found["predictions"], parts, atol=2e-3)
    rows = np.searchsorted(np.unique(ids[shared]), ids[shared])
    p, y = parts.sum(0)[rows], responses[shared]
    if averaged:
        p, y = parts.sum(0), np.stack([responses[ids == image].mean(0) for image in np.unique(ids[shared])])
    r2 = 1 - ((y - y.mean(0) - (p - p.mean(0))) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(found["explained_variance"], r2, atol=5e-3)
    np.testing.assert_allclose(found["product_variance"].sum("band"), r2, atol=5e-3)
    assert {"band", "voxel"} == set(found["unique_variance"].dims)


def test_blocks_change_nothing(small_store: str, tmp_path: Path, threads_client: Client, features: Path) -> None:
    whole = run(small_store, tmp_path / "a", threads_client, features)
    parts = run(small_store, tmp_path / "b", threads_client, features, voxels_per_task=5)
    np.testing.assert_allclose(whole["delta"], parts["delta"], atol=1e-4)
    np.testing.assert_allclose(whole["accuracy"], parts["accuracy"], atol=1e-4)


def test_equal_weights_are_one_ridge_of_all_features(
    small_store: str, tmp_path: Path, threads_client: Client, features: Path
) -> None:
    """Kind ``ridge`` on the joined features; the model without a band is a ridge on the other band."""
    where: dict[str, Any] = {"store": small_store, "runs": str(tmp_path), "client": threads_client}
    settings = {"weighting": "equal", "refit": True, "predictions": True, "voxels_per_task": 9}
    found = run(small_store, tmp_path, threads_client, features, **settings)
    with np.load(features) as file:
        joined = np.concatenate([file["pixels"], file["edges"]], 1)
        np.savez(tmp_path / "ridge.npz", nsd_id=file["nsd_id"], joined=joined, edges=file["edges"])
    grid = {name: SEARCH[name] for name in ("lambda_min", "lambda_max", "lambdas", "folds")}
    same = {"lambda_by": "kfold", "subjects": [2], "rois": ["V1", "V2"], "precision": "float64", "bootstrap": 2}
    ridge = nsdflow.run("ridge", features=str(tmp_path / "ridge.npz"), layers=["joined"], **grid, **same, **where)
    one = ridge["subj02"].to_dataset()
    np.testing.assert_array_equal(found["lambda"], one["lambda"])
    assert len(np.unique(found["lambda"])) > 1
    np.testing.assert_allclose(found["accuracy"], one["accuracy"], atol=1e-5)
    np.testing.assert_allclose(found["product_variance"].sum("band"), found["explained_variance"], atol=1e-6)
    other = nsdflow.run(
        {"kind": "banded_ridge", "name": "edges", "bands": {"edges": {"features": str(features), "layer": "edges"}}}
        | {"weighting": "equal", "protocol": "strict", **grid, "subjects": [2], "rois": ["V1", "V2"], "bootstrap": 2},
        **where,
    )["subj02"].to_dataset()  # fmt: skip
    lost = found["explained_variance"] - other["explained_variance"]
    np.testing.assert_allclose(found["unique_variance"].sel(band="pixels"), lost, atol=1e-6)
    assert (found["unique_variance_std"] > 0).all()
    page = write_report(tmp_path / "banded").read_text()
    assert 'alt="Unique, shared and product variance by band and region' in page
    assert 'alt="Chosen ridge penalties by subject' in page


def test_a_band_needs_its_layer(small_store: str, tmp_path: Path, features: Path) -> None:
    pipeline = {"kind": "banded_ridge", "name": "banded", "bands": {"all": {"features": str(features)}}}
    with pytest.raises(NsdflowError, match="write layer: one of them"):
        nsdflow.plan(pipeline, store=small_store, runs=str(tmp_path))
