"""The tuning pipeline against a plain loop over voxels and partitions, on a joint run and one of several trunks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.analysis.moments import resample_counts
from nsdflow.models.gnet import layer_slices
from nsdflow.pipelines.gnet.saved import load_gnet
from nsdflow.report import write_report
from nsdflow.runs.folder import RunFolder

TRAIN: Mapping[str, Any] = {
    "prefilter": "gabor", "width": 4, "threads": 1, "bootstrap": 2, "train": {"epochs": 1, "batch_size": 40},
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(small_store: str, small_gnet8j: Path, tmp_path_factory: pytest.TempPathFactory, threads_client: Client) -> str:
    folder = str(tmp_path_factory.mktemp("runs"))
    shutil.copytree(small_gnet8j, f"{folder}/gnet8j")
    two = {**TRAIN, "rois": ["V1", "V2"], "roi_groups": ["V1", "V2"], "subjects": [2]}
    nsdflow.run("gnet8r", store=small_store, runs=folder, client=threads_client, **two)
    return folder


@pytest.fixture(scope="module")
def tuned(runs: str, small_store: str, threads_client: Client) -> xr.DataTree:
    return nsdflow.run("tuning", store=small_store, runs=runs, client=threads_client, threads=1, bootstrap=6)


def test_inclusion_and_exclusion_are_those_of_a_plain_loop(tuned: xr.DataTree, small_store: str, runs: str) -> None:
    """The loop sets weights to zero, predicts again, resamples trials and correlates, voxel by voxel."""
    store, saved = nsdflow.open_store(small_store), load_gnet(RunFolder(f"{runs}/gnet8j"))
    results = tuned["subj02"].to_dataset().load()
    responses = store.responses("subj02", shared=True).compute()
    ids = np.unique(responses["nsd_id"])
    rows = np.searchsorted(ids, responses["nsd_id"])
    images, readout = torch.from_numpy(store.images(ids).values), saved.readouts["subj02"]
    counts = resample_counts(len(rows), 6, 0).astype(int)
    counts = counts if counts.shape[1] == len(rows) else counts.T
    weights, names = readout.weights.detach().clone(), list(layer_slices(4))
    for name, part in (("c3", slice(0, 128)), ("c5a", slice(136, 140))):
        assert layer_slices(4)[name] == part
        for kind, keep in (("inclusion", True), ("exclusion", False)):
            inside = torch.zeros(weights.shape[1], dtype=torch.bool)
            inside[part] = True
            with torch.no_grad():
                readout.weights.copy_(torch.where(inside == keep, weights, torch.zeros(())))
                predicted = readout(saved.encoder(images)).numpy()[rows]
            for voxel in (0, 7, 31):
                drawn = [np.repeat(np.arange(len(rows)), count) for count in counts]
                r = [np.corrcoef(predicted[d, voxel], responses.values[d, voxel])[0, 1] for d in drawn]
                found = results[[kind, f"{kind}_std"]].isel(voxel=voxel).sel(partition=name)
                np.testing.assert_allclose(found[kind], np.mean(r), atol=1e-4)
                np.testing.assert_allclose(found[f"{kind}_std"], np.std(r), atol=1e-4)
    assert names == list(results["partition"].values)


@pytest.mark.usefixtures("blank_pictures")
def test_results_are_labelled(tuned: xr.DataTree, small_store: str, runs: str) -> None:
    store = nsdflow.open_store(small_store)
    assert set(tuned.children) == {*store.subjects, "roi_summary"}
    for subject in store.subjects:
        results = tuned[subject].to_dataset()
        np.testing.assert_array_equal(results["flat_index"], store.voxels(subject)["flat_index"])
        assert results["shared"].dims == results["unique"].dims == ("partition", "voxel")
        assert results["half_shared"].dims == ("half", "voxel")
        assert list(results["half"].values) == ["fine", "coarse"]
        for name in ("accuracy", "shared_argmax", "unique_spread", "half_unique_argmax", "noise_ceiling"):
            assert results[name].dims == ("voxel",)
        assert results["parameters"].dims == ("voxel", "parameter")
        assert {"eccentricity", "size", "polar_angle", "orientation", "fitted", "residual"} <= set(results)
        assert results["unique_variance"].dims == results["product_variance_std"].dims == ("partition", "voxel")
        total = results["product_variance"].sum("partition", skipna=False)
        np.testing.assert_allclose(total, results["explained_variance"], atol=1e-6)
    # two halves: the inclusion of one is the exclusion of the other
    halves = tuned["subj01"].to_dataset()
    np.testing.assert_allclose(
        halves["half_inclusion"].sel(half="fine"), halves["half_exclusion"].sel(half="coarse"), atol=1e-6
    )
    page = write_report(f"{runs}/tuning").read_text()
    assert 'alt="Unique, shared and product variance by layer and region' in page


def test_roi_summaries_weigh_voxels_by_explained_variance(tuned: xr.DataTree) -> None:
    summary, results = tuned["roi_summary"].to_dataset(), tuned["subj01"].to_dataset()
    assert summary.attrs["threshold"] == 0.055
    inside = np.isin(results["roi"], nsdflow.names.ROI_GROUPS["V1"]) & (results["accuracy"].values > 0.055)
    assert inside.any()
    weights = results["accuracy"].values[inside] ** 2
    expected = (results["shared"].values[:, inside] * weights).sum(1) / weights.sum()
    np.testing.assert_allclose(summary["shared"].sel(subject="subj01", roi="V1"), expected, rtol=1e-6)
    assert summary["voxels"].sel(subject="subj01", roi="V1") == inside.sum()


def test_a_run_of_several_trunks(small_store: str, runs: str, threads_client: Client) -> None:
    results = nsdflow.run(
        "tuning", store=small_store, runs=runs, client=threads_client,
        name="tuning_r", model="gnet8r", threads=1, bootstrap=16,
    )  # fmt: skip
    assert set(results.children) == {"subj02", "roi_summary"}, "the subjects of the run"
    own = nsdflow.open_run(f"{runs}/gnet8r")["subj02"].to_dataset()
    found = results["subj02"].to_dataset()
    np.testing.assert_array_equal(found["part"], own["part"])
    np.testing.assert_allclose(found["accuracy"], own["accuracy"], atol=0.15)
