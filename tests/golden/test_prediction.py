"""Validation correlation over single trials, by the prediction notebook and by the training module."""

from __future__ import annotations

import numpy as np
import torch

from nsdflow.fit.statistics import correlate_columns
from nsdflow.pipelines.common.evaluation import validation_accuracy


def test_validation_accuracy(golden) -> None:
    arrays = golden("prediction")
    subjects = [int(name.removeprefix("betas_")) for name in arrays if name.startswith("betas_")]
    assert subjects
    for s in subjects:
        betas, predictions = arrays[f"betas_{s}"], arrays[f"predictions_{s}"]
        images = arrays["ordering"][: len(betas)]
        shared = images < 1000
        np.testing.assert_array_equal(images[shared], arrays[f"val_order_{s}"])
        scores = validation_accuracy(
            predictions, np.arange(len(predictions)), betas[shared], images[shared], None, resamples=0, seed=0
        )
        constant = np.isnan(arrays[f"val_cc_{s}"])
        found = scores["accuracy"].values
        np.testing.assert_allclose(found[~constant], arrays[f"val_cc_{s}"][~constant], atol=1e-6)
        trained = correlate_columns(torch.from_numpy(predictions[images[shared]]), torch.from_numpy(betas[shared]))
        np.testing.assert_allclose(trained, arrays[f"validation_cc_{s}"], atol=1e-6)
        assert not trained.numpy()[constant].any()
