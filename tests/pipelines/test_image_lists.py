"""Predictions, means and channel selections on a store that holds all images of a subject's list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client
from torch import nn

import nsdflow
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.models.networks import open_network
from nsdflow.nsd.design import read_design
from nsdflow.nsd.source import open_source
from nsdflow.pipelines.common.data import listed_images
from nsdflow.pipelines.fwrf.features import sizes_of
from nsdflow.pipelines.fwrf.settings import FwrfPipeline
from nsdflow.pipelines.fwrf.tasks import feature_images
from nsdflow.pipelines.gnet.saved import load_gnet
from nsdflow.pipelines.parity.means import store_means
from nsdflow.runs.folder import RunFolder

SMALL: Mapping[str, Any] = {
    "prefilter": "gabor", "width": 2, "threads": 1, "bootstrap": 0, "train": {"epochs": 1, "batch_size": 40},
}  # fmt: skip


@pytest.fixture(scope="module")
def whole_lists(small_nsd: Path, tmp_path_factory: pytest.TempPathFactory, threads_client: Client) -> str:
    """One session of each subject, with all images of their lists."""
    target = str(tmp_path_factory.mktemp("store") / "nsd.zarr")
    carry_out(plan_ingest(str(small_nsd), target, image_size=67, images="subjects", sessions="1"), threads_client)
    return target


def lists_of(nsd: Path) -> dict[str, np.ndarray]:
    design = read_design(open_source(str(nsd)))
    return {subject: np.sort(design.subjectim[i]) for i, subject in enumerate(design.subjects)}


def test_lists_are_those_of_the_design(whole_lists: str, small_store: str, small_nsd: Path) -> None:
    store = nsdflow.open_store(whole_lists)
    for subject in store.subjects:
        listed = listed_images(store, subject)
        assert listed.complete
        np.testing.assert_array_equal(listed.nsd_id, lists_of(small_nsd)[subject])
        assert len(listed.nsd_id) > len(np.unique(store.trials(subject)["nsd_id"])), "some were not shown"
        assert set(listed.nsd_id[listed.shared]) == set(read_design(open_source(str(small_nsd))).sharedix)
    seen = listed_images(nsdflow.open_store(small_store), "subj02")
    np.testing.assert_array_equal(seen.nsd_id, np.unique(nsdflow.open_store(small_store).trials("subj02")["nsd_id"]))


def test_input_mean_and_predictions_take_the_whole_lists(
    whole_lists: str, small_nsd: Path, tmp_path: Path, threads_client: Client
) -> None:
    where: dict[str, Any] = {"store": whole_lists, "runs": str(tmp_path), "client": threads_client}
    store, lists = nsdflow.open_store(whole_lists), lists_of(small_nsd)
    tree = nsdflow.run("gnet8j", **where, **SMALL)
    means = [store.images(lists[subject]).values.mean((0, 2, 3)) / 255 for subject in store.subjects]
    prefilter = load_gnet(RunFolder(f"{tmp_path}/gnet8j")).encoder.prefilter
    np.testing.assert_allclose(prefilter.mean.flatten(), np.mean(means, axis=0), rtol=1e-6)
    assert tree["history"].attrs["input_mean_over"] == "all images of each subject's list, then over subjects"
    predicted = nsdflow.run("predict", **where, threads=1)
    for subject in store.subjects:
        np.testing.assert_array_equal(predicted[subject]["nsd_id"], lists[subject])
    separate = nsdflow.run("gnet8r", **where, **SMALL, roi_groups=["V1"], rois=["V1"])
    shared = read_design(open_source(str(small_nsd))).sharedix
    own = [np.setdiff1d(lists[subject], shared) for subject in store.subjects]
    means = [store.images(ids).values.mean((0, 2, 3)) / 255 for ids in own]
    np.testing.assert_allclose(separate["history"].attrs["input_mean"], np.mean(means, axis=0), rtol=1e-6)
    assert "but the shared ones" in separate["history"].attrs["input_mean_over"]
    assert isinstance(prefilter.mean, torch.Tensor)


def test_parity_takes_exact_means_from_whole_lists(whole_lists: str, small_store: str, small_nsd: Path) -> None:
    store, lists = nsdflow.open_store(whole_lists), lists_of(small_nsd)
    shared = read_design(open_source(str(small_nsd))).sharedix
    cells = {(cell.quantity, cell.roi): cell for cell in store_means(store, store.subjects)}
    for model, left_out in (("gnet8j", []), ("gnet8r", shared)):
        own = [np.setdiff1d(lists[subject], left_out) for subject in store.subjects]
        expected = np.mean([store.images(ids).values.mean((0, 2, 3)) / 255 for ids in own], axis=0)
        found = [cells[f"input mean, {model}", channel].ours for channel in ("red", "green", "blue")]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    seen_only = nsdflow.open_store(small_store)
    assert list(store_means(seen_only, seen_only.subjects)) == []


def test_channels_are_selected_over_whole_lists(whole_lists: str, small_nsd: Path) -> None:
    store = nsdflow.open_store(whole_lists)
    everything = np.unique(np.concatenate(list(lists_of(small_nsd).values())))
    shown = np.unique(np.concatenate([store.trials(subject)["nsd_id"] for subject in store.subjects]))
    alexnet = FwrfPipeline(name="x")

    def needed(config: FwrfPipeline) -> np.ndarray:
        return feature_images(config, store, store.subjects, sizes_of(config, 67))

    np.testing.assert_array_equal(needed(alexnet), everything)
    for config in (alexnet.model_copy(update={"protocol": "strict"}), FwrfPipeline(name="x", features="gabor")):
        np.testing.assert_array_equal(needed(config), shown)


def many_channels() -> nn.Module:
    """A network of one layer with more channels than the pipeline keeps."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 24, 9, stride=8), nn.ReLU())


def test_shared_images_count_once_per_subject_in_the_choice_of_channels(
    whole_lists: str, small_nsd: Path, tmp_path: Path, threads_client: Client
) -> None:
    """Variance over the concatenated lists, from a plain mean over their images."""
    settings = {"candidates": {"sizes": 1, "smallest": 0.4}, "lambdas": 2, "bootstrap": 0, "threads": 1}
    network = f"{__name__}:many_channels"
    tree = nsdflow.run(
        "alexnet_fwrf", store=whole_lists, runs=str(tmp_path), client=threads_client, features=network,
        max_features_per_layer=10, **settings,
    )  # fmt: skip
    store, lists = nsdflow.open_store(whole_lists), lists_of(small_nsd)
    listed = np.concatenate([lists[subject] for subject in store.subjects])
    assert len(np.unique(listed)) < len(listed), "shared images are there more than once"
    chosen = {subject: sorted(tree[subject]["channel"].values.tolist()) for subject in store.subjects}
    (layer,) = open_network(network, None)(torch.from_numpy(store.images(np.unique(listed)).values))
    maps = layer.detach().double().numpy()[np.searchsorted(np.unique(listed), listed)]
    variance = (maps**2).mean((0, 2, 3)) - maps.mean((0, 2, 3)) ** 2
    expected = sorted(np.argsort(-variance)[:10].tolist())
    assert chosen == dict.fromkeys(store.subjects, expected)
