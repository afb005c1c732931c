"""The fwRF pipeline on a small synthetic NSD: labelled, resumable, independent of the division into tasks."""

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
from nsdflow.fit.fwrf import FwrfSettings, fit
from nsdflow.fit.split import last_trials_holdout
from nsdflow.models.networks import open_network
from nsdflow.models.networks.alexnet import ALEXNET_LAYERS
from nsdflow.models.networks.levels import extract_levels
from nsdflow.models.pooling import candidate_grid, log_spaced_sizes
from nsdflow.pipelines.fwrf import features
from nsdflow.report import write_report

SMALL: Mapping[str, Any] = {
    "features": "gabor_low",
    "candidates": {"sizes": 2, "smallest": 0.2, "largest": 0.4},
    "lambdas": 3,
    "threads": 1,
    "bootstrap": 4,
    "candidates_per_task": 10,
}


@pytest.fixture(scope="module")
def fitted(
    small_store: str, tmp_path_factory: pytest.TempPathFactory, threads_client: Client
) -> tuple[Path, xr.DataTree]:
    runs = tmp_path_factory.mktemp("runs")
    return runs, nsdflow.run("gabor_fwrf", store=small_store, runs=str(runs), client=threads_client, **SMALL)


@pytest.mark.usefixtures("blank_pictures")
def test_results_are_labelled_as_designed(fitted: tuple[Path, xr.DataTree], small_store: str) -> None:
    runs, tree = fitted
    store = nsdflow.open_store(small_store)
    assert set(tree.children) == {"subj01", "subj02", "candidates"}
    candidates = tree["candidates"]["rf"]
    grid = candidate_grid(log_spaced_sizes(2, 0.2, 0.4), spacing=1.4)
    np.testing.assert_array_equal(candidates, grid.astype(np.float32))
    known = set(map(tuple, candidates.values.tolist()))
    assert all(tuple(field) in known for field in tree["subj01"]["rf"].values.tolist())
    assert 'alt="Candidates by size' in write_report(runs / "gabor_fwrf").read_text()
    for subject in store.subjects:
        results = tree[subject].to_dataset()
        assert results["rf"].dims == ("voxel", "parameter")
        assert list(results["parameter"].values) == ["x", "y", "sigma"]
        assert results.sizes["feature"] == 48
        assert len(np.unique(results["layer"])) == 8
        for name in ("lambda", "holdout_loss", "bias", "accuracy", "noise_ceiling"):
            assert results[name].dims == ("voxel",)
        for name in ("weights", "feature_mean", "feature_std"):
            assert results[name].dims == ("voxel", "feature")
        np.testing.assert_array_equal(results["flat_index"], store.voxels(subject)["flat_index"])
    assert not (runs / "gabor_fwrf" / "features").exists()
    assert not (runs / "gabor_fwrf" / "parts").exists()


def test_tasks_give_what_one_call_of_the_solver_gives(fitted: tuple[Path, xr.DataTree], small_store: str) -> None:
    store = nsdflow.open_store(small_store)
    responses = store.responses("subj02", shared=False).compute()
    ids = np.unique(store.trials("subj02")["nsd_id"])
    levels = extract_levels(open_network("gabor_low"), store.images(ids).values)
    result = fit(
        levels.maps,
        torch.from_numpy(np.searchsorted(ids, responses["nsd_id"].values)),
        torch.from_numpy(responses.values),
        torch.from_numpy(last_trials_holdout(responses.sizes["trial"], 0.1)),
        candidate_grid(log_spaced_sizes(2, 0.2, 0.4), spacing=1.4),
        FwrfSettings(lambdas=tuple(np.geomspace(1, 1e5, 3))),
    )
    ours = fitted[1]["subj02"].to_dataset()
    # the sums over trials run over other images before the shared ones are left out: equal but for rounding
    np.testing.assert_allclose(ours["holdout_loss"], result.holdout_loss, rtol=1e-4)
    assert (ours["rf"].values == result.rf.numpy().astype(np.float32)).all(axis=1).mean() > 0.95


def test_trials_of_an_image_can_be_averaged(small_store: str, tmp_path: Path, threads_client: Client) -> None:
    """The solver on one row per image, in the order of the subject's list; validation on averages."""
    settings = {**SMALL, "subjects": [2], "bootstrap": 0, "combine_trial": True}
    tree = nsdflow.run("gabor_fwrf", store=small_store, runs=str(tmp_path), client=threads_client, **settings)
    ours, lazy = tree["subj02"].to_dataset(), nsdflow.open_store(small_store).responses("subj02").compute()
    place, shared = lazy["subject_image"].values, lazy["shared"].values.astype(bool)
    rows = [np.flatnonzero(place == image) for image in np.unique(place)]
    means = np.stack([lazy.values[trials].mean(0) for trials in rows])
    first = [trials[0] for trials in rows]
    ids, validates = lazy["nsd_id"].values[first], shared[first]
    known = np.unique(ids[~validates])
    levels = extract_levels(open_network("gabor_low"), nsdflow.open_store(small_store).images(known).values)
    result = fit(
        levels.maps,
        torch.from_numpy(np.searchsorted(known, ids[~validates])),
        torch.from_numpy(means[~validates]),
        torch.from_numpy(last_trials_holdout(int((~validates).sum()), 0.1)),
        candidate_grid(log_spaced_sizes(2, 0.2, 0.4), spacing=1.4),
        FwrfSettings(lambdas=tuple(np.geomspace(1, 1e5, 3))),
    )
    np.testing.assert_allclose(ours["holdout_loss"], result.holdout_loss, rtol=1e-4)
    counts = np.array([len(trials) for trials in rows])[validates]
    ncsnr = ours["ncsnr"].values.astype(np.float64)
    ceiling = np.sqrt(ncsnr**2 / (ncsnr**2 + (1 / counts).mean()))
    np.testing.assert_allclose(ours["noise_ceiling"], ceiling, rtol=1e-5)
    assert ours.attrs["validation_trials"] == ours.attrs["validation_images"] == len(counts)


def test_blocks_of_candidates_and_what_is_kept_change_nothing(
    fitted: tuple[Path, xr.DataTree],
    small_store: str,
    tmp_path: Path,
    threads_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the same images in the same batches: a convolution's last bits depend on the batch on some processors
    whole = {**SMALL, "candidates_per_task": 1000}
    again = nsdflow.run("gabor_fwrf", store=small_store, runs=str(tmp_path / "whole"), client=threads_client, **whole)
    ours, theirs = again["subj02"].to_dataset(), fitted[1]["subj02"].to_dataset()
    for choice in ("rf", "lambda", "channel", "layer"):
        assert ours[choice].identical(theirs[choice])
    # images are pooled in blocks of other sizes, for which MKL takes other kernels: equal but for float32 rounding
    xr.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    log = (tmp_path / "whole" / "gabor_fwrf" / "log.jsonl").read_text()
    assert log.count('"search-subj') == 2, "one search per subject"
    assert features.FeatureSizes(((2, 9, 9),), (2,), ((0,),), 3).kept == "pooled"
    assert features.FeatureSizes(((2, 9, 9),), (2,), ((0,),), 300).kept == "maps"
    monkeypatch.setattr(features.FeatureSizes, "kept", "maps")
    one = {**whole, "subjects": [2]}
    maps = nsdflow.run("gabor_fwrf", store=small_store, runs=str(tmp_path / "maps"), client=threads_client, **one)
    xr.testing.assert_allclose(maps["subj02"].to_dataset(), again["subj02"].to_dataset(), rtol=1e-3, atol=1e-4)


def test_alexnet_with_weights_from_a_file(
    small_store: str, tmp_path: Path, alexnet: Path, threads_client: Client
) -> None:
    results = nsdflow.run(
        "alexnet_fwrf", store=small_store, runs=str(tmp_path), client=threads_client, subjects=[1],
        feature_weights=str(alexnet), max_features_per_layer=20, **{**SMALL, "features": "alexnet"},
    )  # fmt: skip
    subject = results["subj01"].to_dataset()
    names, counts = np.unique(subject["layer"], return_counts=True)
    assert dict(zip(names, counts, strict=True)) == dict.fromkeys(ALEXNET_LAYERS, 20)
    assert np.isfinite(subject["accuracy"]).all()
