"""Training by the published protocol, in float64, against the published code's curves and parameters."""

from __future__ import annotations

import numpy as np
import torch

from nsdflow.fit.gnet import TrainSettings, Trials, train
from nsdflow.fit.split import last_trials_holdout
from nsdflow.models.gnet import Encoder
from nsdflow.models.published import load_checkpoint

READOUT_NAMES = {"rf0": "pooling_logits.0", "rf1": "pooling_logits.1", "w": "weights", "b": "bias"}


def trunk_name(published: str) -> str:
    """``enc.conv5a.conv1.bias`` -> ``c5a.conv.bias``; the first block's parts stand by themselves."""
    _, layer, *rest = published.split(".")
    if layer in ("conv3", "bn1"):
        return f"c3.{'conv' if layer == 'conv3' else 'norm'}.{rest[-1]}"
    return f"c{layer[4:]}.{'conv' if rest[0] == 'conv1' else 'norm'}.{rest[-1]}"


def test_training(golden, golden_images, golden_folder) -> None:
    arrays = golden("gnet_training")
    model = load_checkpoint(golden_folder / "gnet8j_model_params.pt")
    encoder = Encoder(model.encoder.prefilter, model.encoder.trunk.width, dropout=0.0)
    encoder.load_state_dict(model.encoder.state_dict())
    subjects = {int(name.removeprefix("order_")): arrays[name] for name in arrays if name.startswith("order_")}
    trials = {
        f"subj{subject:02d}": Trials(
            images=torch.from_numpy(order),
            responses=torch.from_numpy(arrays[f"betas_{subject}"]),
            holdout=torch.from_numpy(last_trials_holdout(len(order), float(arrays["holdout_frac"]))),
        )
        for subject, order in subjects.items()
    }
    result = train(
        torch.from_numpy(golden_images(arrays)),
        trials,
        encoder.double(),
        {name: readout.double() for name, readout in model.readouts.items() if name in trials},
        settings=TrainSettings(
            epochs=int(arrays["epochs"]), batch_size=int(arrays["batch_size"]), shuffle=False, prefilter_cache="full"
        ),
    )
    np.testing.assert_allclose([e["train_loss"] for e in result.history], arrays["train_loss"], rtol=1e-6)
    np.testing.assert_allclose([e["holdout_loss"] for e in result.history], arrays["holdout_loss"], rtol=1e-6)
    assert result.best_epoch == int(arrays["best_epoch"])
    np.testing.assert_allclose(result.best_score, arrays["best_score"], atol=1e-4)
    for subject in subjects:
        found = result.holdout_accuracy[f"subj{subject:02d}"]
        np.testing.assert_allclose(found, arrays[f"holdout_cc_{subject}"], atol=1e-4)

    compared = 0
    for name, expected in arrays.items():
        if not name.startswith("final."):
            continue
        _, part, published = name.split(".", 2)
        if part == "enc":
            found = result.final_encoder.trunk.state_dict()[trunk_name(published)]
        else:
            readout = result.final_readouts[f"subj{int(part.removeprefix('head')):02d}"]
            found = readout.state_dict()[READOUT_NAMES[published]]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=name)
        compared += 1
    assert compared > 4 * len(subjects)
