"""A checkpoint in the published file format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nsdflow.models.published import load_checkpoint


@pytest.fixture(scope="module")
def content(golden_folder) -> dict:
    """The file as torch reads it without any restriction: the files of this folder are our own."""
    return torch.load(golden_folder / "gnet8j_model_params.pt", weights_only=False)


@pytest.mark.parametrize("which", ["best", "final"])
def test_every_tensor_finds_its_place(golden_folder, content: dict, which: str) -> None:
    model = load_checkpoint(golden_folder / "gnet8j_model_params.pt", which=which)
    ours = [*model.encoder.state_dict().values()]
    ours += [value for readout in model.readouts.values() for value in readout.state_dict().values()]
    parameters = content[f"{which}_params"]
    theirs = [*parameters["enc"].values(), *(v for head in parameters["fwrfs"].values() for v in head.values())]

    def keys(tensors: list[torch.Tensor]) -> list[tuple]:
        return sorted((tuple(t.shape), t.double().sum().item()) for t in tensors)

    assert keys(ours) == keys(theirs)


def test_what_else_is_in_it(golden_folder, content: dict) -> None:
    model = load_checkpoint(golden_folder / "gnet8j_model_params.pt")
    assert list(model.readouts) == [f"subj{s:02d}" for s in content["best_params"]["fwrfs"]]
    assert model.best_epoch == content["best_epoch"]
    assert model.best_score == content["best_joint_cc_score"]
    np.testing.assert_array_equal(model.input_mean, np.ravel(content["input_mean"]))
    np.testing.assert_array_equal(model.train_loss, content["trn_loss_history"])
    np.testing.assert_array_equal(model.holdout_loss, content["hold_loss_history"])
    for number in content["best_params"]["fwrfs"]:
        subject = f"subj{number:02d}"
        assert model.volume_shape[subject] == content["brain_nii_shape"][number]
        np.testing.assert_array_equal(model.flat_index[subject], content["voxel_index"][number])
        np.testing.assert_array_equal(model.roi[subject], content["voxel_roi"][number])
        np.testing.assert_array_equal(model.validation_accuracy[subject], content["val_cc"][number])
        np.testing.assert_array_equal(model.holdout_accuracy[subject], content["hold_cc_history"][number])
