"""Readouts on a frozen trunk in train mode, in float64, against the published cross-ROI cell."""

from __future__ import annotations

import numpy as np
import torch

from nsdflow.fit.gnet import TrainSettings, Trials, train
from nsdflow.fit.gnet.evaluate import predict
from nsdflow.fit.split import last_trials_holdout
from nsdflow.fit.statistics import correlate_columns
from nsdflow.models.gnet import Encoder, Readout, level_shapes
from nsdflow.models.published import load_checkpoint
from tests.golden.test_gnet_training import READOUT_NAMES, trunk_name


def test_transfer(golden, golden_images, golden_folder) -> None:
    arrays = golden("transfer_training")
    model = load_checkpoint(golden_folder / "gnet8r_model_params.pt")
    encoder = Encoder(model.encoder.prefilter, model.encoder.trunk.width, dropout=0.0)
    encoder.load_state_dict(model.encoder.state_dict())
    encoder.double()
    images = torch.from_numpy(golden_images(arrays))
    levels = level_shapes(encoder, images)
    subjects = [int(name.removeprefix("order_")) for name in arrays if name.startswith("order_")]
    trials, readouts = {}, {}
    for s in subjects:
        order = arrays[f"order_{s}"]
        trials[f"subj{s:02d}"] = Trials(
            images=torch.from_numpy(order),
            responses=torch.from_numpy(arrays[f"betas_{s}"]),
            holdout=torch.from_numpy(last_trials_holdout(len(order), float(arrays["holdout_frac"]))),
        )
        readout = Readout(arrays[f"betas_{s}"].shape[1], levels).double()
        start = {ours: torch.from_numpy(arrays[f"init.head{s}.{name}"]) for name, ours in READOUT_NAMES.items()}
        readout.load_state_dict(start)
        readouts[f"subj{s:02d}"] = readout
    settings = TrainSettings(
        epochs=int(arrays["epochs"]), batch_size=int(arrays["batch_size"]), shuffle=False, train_encoder=False,
        frozen_encoder="train",
    )  # fmt: skip
    result = train(images, trials, encoder, readouts, settings=settings)

    np.testing.assert_allclose([e["train_loss"] for e in result.history], arrays["train_loss"], rtol=1e-12)
    np.testing.assert_allclose([e["holdout_loss"] for e in result.history], arrays["holdout_loss"], rtol=1e-12)
    assert result.best_epoch == int(arrays["best_epoch"])
    np.testing.assert_allclose(result.best_score, arrays["best_score"], atol=1e-6)
    for s in subjects:
        subject = f"subj{s:02d}"
        np.testing.assert_allclose(result.holdout_accuracy[subject], arrays[f"holdout_cc_{s}"], atol=1e-6)
        state = result.final_readouts[subject].state_dict()
        for published, ours in READOUT_NAMES.items():
            np.testing.assert_allclose(state[ours], arrays[f"final.head{s}.{published}"], rtol=1e-11, atol=1e-12)
        rows = torch.from_numpy(arrays[f"val_order_{s}"])
        predicted = predict(result.encoder, result.readouts[subject], images, rows)
        accuracy = correlate_columns(predicted, torch.from_numpy(arrays[f"val_betas_{s}"]))
        np.testing.assert_allclose(accuracy, arrays[f"val_cc_{s}"], atol=1e-6)

    before = encoder.trunk.state_dict()
    for snapshot, trunk in (("final", result.final_encoder.trunk), ("best", result.encoder.trunk)):
        after, drifted = trunk.state_dict(), set()
        for name, expected in arrays.items():
            if name.startswith(f"{snapshot}.enc."):
                ours = trunk_name(name.removeprefix(f"{snapshot}.enc."))
                np.testing.assert_allclose(after[ours], expected, rtol=1e-10, atol=1e-12, err_msg=name)
                drifted.add(ours)
        for name, tensor in after.items():
            if not name.endswith("num_batches_tracked") and name not in drifted:
                assert torch.equal(tensor, before[name]), name
    tracked = "c3.norm.num_batches_tracked"
    assert int(result.final_encoder.trunk.state_dict()[tracked] - before[tracked]) == int(arrays["batches_seen"])
