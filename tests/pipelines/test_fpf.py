"""AlexNet-fpf with weights drawn at random: labelled, frozen, with the channels that vary most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from distributed import Client
from safetensors.torch import load_file

import nsdflow
from nsdflow.models.flexible_pooling import compress
from nsdflow.models.networks.alexnet import ALEXNET_LAYERS, AlexNet
from nsdflow.models.networks.levels import extract_levels, fit_levels


def test_results_are_those_of_the_readout_on_alexnets_levels(
    small_store: str, tmp_path: Path, alexnet: Path, threads_client: Client
) -> None:
    tree = nsdflow.run(
        "alexnet_fpf", store=small_store, runs=str(tmp_path), client=threads_client, subjects=[2],
        feature_weights=str(alexnet), max_features_per_layer=100, threads=1, bootstrap=2,
        train={"epochs": 1, "batch_size": 40},
    )  # fmt: skip
    results = tree["subj02"].to_dataset()
    names, counts = np.unique(results["layer"], return_counts=True)
    assert dict(zip(names, counts, strict=True)) == dict.fromkeys(ALEXNET_LAYERS[1:5], 100) | {"conv1": 64}
    assert np.isfinite(results["accuracy"]).all()
    assert tree["history"].sizes["epoch"] == 1
    state = load_file(tmp_path / "alexnet_fpf" / "model.safetensors")
    kept = {name for name in state if not name.removeprefix("final.").startswith("readouts.subj02.")}
    network_state = {name for name in kept if name.startswith("network.features.")}
    assert kept - network_state == {"about", "channels.0", "channels.1"}, "fully connected layers are not copied"
    assert len(network_state) == 10

    store = nsdflow.open_store(small_store)
    ids = np.unique(store.trials("subj02")["nsd_id"])
    images = store.images(ids).values
    training = ~np.isin(ids, store.trials("subj02")["nsd_id"].values[store.trials("subj02")["shared"].values])
    network = AlexNet(torch.load(alexnet, weights_only=True))
    # the channels that vary most over the training images, then the formula of the readout, spelled out
    chosen = fit_levels(lambda x: network(x)[:5], images[training], limit=100)
    everything = extract_levels(lambda x: network(x)[:5], images)
    assert list(chosen.layer_of_feature) == [ALEXNET_LAYERS.index(name) for name in results["layer"].values]
    predicted = results["bias"].values[None].repeat(len(ids), 0)
    first = 0
    for level, maps in enumerate(everything.maps):
        small = np.asarray(chosen.maps[level])
        whole = np.asarray(maps)
        means, wanted = whole[training].mean((0, 2, 3)), small.mean((0, 2, 3))
        kept = [int(abs(means - mean).argmin()) for mean in wanted]
        np.testing.assert_allclose(whole[training][:, kept], small, atol=1e-3)
        logits = results[f"pooling_logits_{level}"].values.reshape(len(results["voxel"]), -1)
        field = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        values = compress(torch.from_numpy(whole[:, kept])).numpy().reshape(len(ids), len(kept), -1)
        weight = results["weights"].values[:, first : first + len(kept)]
        pooled = np.einsum("ifp,vp->ivf", values, field)
        predicted = predicted + (np.log1p(abs(pooled)) * np.tanh(pooled) * weight).sum(2)
        first += len(kept)
    shared = store.responses("subj02", roi=["V1", "V2", "V3", "hV4"], shared=True).compute()
    rows = np.searchsorted(ids, shared["nsd_id"])
    for voxel in (0, 5, 20):
        r = np.corrcoef(predicted[rows, voxel], shared.values[:, voxel])[0, 1]
        np.testing.assert_allclose(results["accuracy"].values[voxel], r, atol=1e-3)
