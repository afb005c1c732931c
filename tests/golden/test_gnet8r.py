"""A checkpoint of one GNet8r trunk: voxels by its group mask, predictions, and a mask that is pickled as a memmap."""

from __future__ import annotations

import builtins
import mmap

import numpy as np
import pytest
import torch

from nsdflow.models.published import load_checkpoint, read_published


@pytest.fixture(scope="module")
def model(golden_folder):
    return load_checkpoint(golden_folder / "gnet8r_model_params.pt")


def test_voxels_are_those_of_the_group(golden, model) -> None:
    truth = golden("gnet8r_truth")
    assert model.group == str(truth["group"])
    assert model.encoder.trunk.width == int(truth["width"])
    for subject, readout in model.readouts.items():
        s = int(subject.removeprefix("subj"))
        assert len(readout.bias) == len(truth[f"flat_index_{s}"])
        np.testing.assert_array_equal(model.flat_index[subject], truth[f"flat_index_{s}"])
        np.testing.assert_array_equal(model.roi[subject], truth[f"roi_{s}"])
        np.testing.assert_array_equal(model.all_flat_index[subject], truth[f"all_flat_index_{s}"])
        np.testing.assert_array_equal(model.all_roi[subject], truth[f"all_roi_{s}"])
        np.testing.assert_array_equal(model.group_mask[subject], truth[f"group_mask_{s}"])
        np.testing.assert_array_equal(model.validation_accuracy[subject], truth[f"val_cc_{s}"])
        whole = np.zeros_like(truth[f"all_val_cc_{s}"])
        whole[model.group_mask[subject]] = model.validation_accuracy[subject]
        np.testing.assert_array_equal(whole, truth[f"all_val_cc_{s}"])


@pytest.mark.parametrize(("which", "name"), [("best", "pred"), ("final", "pred_final")])
def test_predictions(golden, golden_images, golden_folder, which: str, name: str) -> None:
    truth = golden("gnet8r_truth")
    images = torch.from_numpy(golden_images(truth))
    snapshot = load_checkpoint(golden_folder / "gnet8r_model_params.pt", which=which)
    for subject in snapshot.readouts:
        expected = truth[f"{name}_{int(subject.removeprefix('subj'))}"]
        np.testing.assert_allclose(snapshot.predict(images, subject).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_memmap_is_read_as_a_plain_array_and_opens_nothing(golden_folder, monkeypatch) -> None:
    path = golden_folder / "gnet8r_model_params.pt"
    opened, really = [], builtins.open

    def watch(file, *arguments, **settings):
        opened.append(str(file))
        return really(file, *arguments, **settings)

    def refuse(*_, **__):
        raise AssertionError("a file was mapped")

    monkeypatch.setattr(builtins, "open", watch)
    monkeypatch.setattr(np, "memmap", refuse)
    monkeypatch.setattr(mmap, "mmap", refuse)
    content = read_published(path)
    for mask in content["voxel_mask"].values():
        assert type(mask) is np.ndarray
        assert mask.dtype == bool
    assert {name for name in opened if not name.startswith(("/proc", "/sys"))} <= {str(path)}
