"""Partitions of a checkpoint's features: predictions of each alone and without it, and bootstrapped correlations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nsdflow.analysis.moments import centred, mean_and_std, resampled_correlation
from nsdflow.fit.gnet.evaluate import predict, predict_partitions
from nsdflow.models.gnet import bipartite_slices, layer_slices
from nsdflow.models.published import load_checkpoint


def masks(slices: dict[str, slice], features: int) -> np.ndarray:
    rows = np.zeros((len(slices), features), bool)
    for row, part in zip(rows, slices.values(), strict=True):
        row[part] = True
    return rows


@pytest.mark.parametrize(("kind", "slices"), [("layer", layer_slices), ("half", bipartite_slices)])
def test_partitions(golden, golden_images, golden_folder, kind: str, slices) -> None:
    arrays, truth = golden("tuning_bootstrap"), golden("gnet8r_truth")
    model = load_checkpoint(golden_folder / "gnet8r_model_params.pt")
    parts = slices(model.encoder.trunk.width)
    features = arrays[f"masks_{kind}"].shape[1]
    np.testing.assert_array_equal(masks(parts, features), arrays[f"masks_{kind}"])
    np.testing.assert_array_equal(masks(slices(64), 512), arrays[f"masks_{kind}_64"])
    images = torch.from_numpy(golden_images(arrays))
    for subject, readout in model.readouts.items():
        s = int(subject.removeprefix("subj"))
        whole = predict(model.encoder, readout, images).numpy()
        np.testing.assert_allclose(whole, arrays[f"pred_{s}"], rtol=1e-5, atol=1e-5)
        added = predict_partitions(model.encoder, readout, images, partitions=list(parts.values())).numpy()
        bias = readout.bias.detach().numpy()
        included = added.transpose(2, 0, 1) + bias
        parts_of = added.transpose(2, 0, 1).astype(float)
        excluded = parts_of.sum(0) - parts_of + bias
        np.testing.assert_allclose(included, arrays[f"{kind}_incl_pred_{s}"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(excluded, arrays[f"{kind}_excl_pred_{s}"], rtol=1e-4, atol=1e-5)

        order = arrays[f"order_{s}"]
        betas = arrays[f"betas_{s}"][:, truth[f"group_mask_{s}"]]
        published = [arrays[f"pred_{s}"][None], arrays[f"{kind}_incl_pred_{s}"], arrays[f"{kind}_excl_pred_{s}"]]
        draws = [arrays[f"{kind}_draw_{s}"][None], arrays[f"{kind}_incl_draw_{s}"], arrays[f"{kind}_excl_draw_{s}"]]
        expected = [arrays[f"{kind}_cc_{s}"][None], arrays[f"{kind}_incl_cc_{s}"], arrays[f"{kind}_excl_cc_{s}"]]
        ours = [whole[None], included, excluded]
        joined = (np.concatenate(parts) for parts in (published, ours, draws, expected))
        for theirs, own, draw, wanted in zip(*joined, strict=True):
            counts = np.stack([np.bincount(drawn, minlength=len(order)) for drawn in draw]).astype(float)
            resampled = resampled_correlation(betas.T.astype(float), counts)
            # the correlation of a partition that hardly varies magnifies the rounding of its float32 predictions
            for predictions, tolerance in ((theirs, 1e-5), (own, 1e-3)):
                mean, deviation = mean_and_std(resampled(centred(predictions[order].T.astype(float))))
                np.testing.assert_allclose(np.stack([mean, deviation], 1), wanted, atol=tolerance)
