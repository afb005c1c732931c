"""Reading published checkpoints executes nothing in the file, and damage gives one line."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import Encoder, Prefilter, Readout, level_shapes
from nsdflow.models.published import load_checkpoint


@pytest.fixture(scope="module")
def content() -> dict:
    """A checkpoint in the published format, written from our own modules."""
    encoder = Encoder(Prefilter(gabor_prefilter_weights(0), mean=(0.5, 0.45, 0.4)), width=4)
    readout = Readout(5, level_shapes(encoder, torch.zeros(1, 3, 99, 99, dtype=torch.uint8)))
    state = {"mu": encoder.prefilter.mean}
    for ours, theirs in (("conv1", "pre.conv1.0"), ("conv2", "pre.conv2.0")):
        state |= {f"{theirs}.{k}": v for k, v in encoder.prefilter.get_submodule(ours).state_dict().items()}
    for layer, block in encoder.trunk.named_children():
        prefix = (
            ("enc.conv3", "enc.bn1") if layer == "c3" else (f"enc.conv{layer[1:]}.conv1", f"enc.conv{layer[1:]}.bn1")
        )
        for module, name in zip((block.conv, block.norm), prefix, strict=True):
            state |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
    head = {"w": readout.weights.detach(), "b": readout.bias.detach()}
    head |= {f"rf{i}": logits.detach() for i, logits in enumerate(readout.pooling_logits)}
    parameters = {"enc": state, "fwrfs": {3: head}}
    return {
        "best_params": parameters,
        "final_params": parameters,
        "trn_loss_history": [np.float64(1.0), np.float32(0.5)],
        "hold_loss_history": [1.5, 1.0],
        "hold_cc_history": {3: [np.zeros(5), np.ones(5, dtype=np.float32)]},
        "best_epoch": np.int64(1),
        "best_joint_cc_score": np.float64(0.25),
        "val_cc": {3: np.full(5, 0.5)},
        "input_mean": np.full((1, 3, 1, 1), 0.45, dtype=np.float32),
        "brain_nii_shape": {3: (4, 5, 6)},
        "voxel_index": {3: np.arange(5)},
        "voxel_roi": {3: np.array([1, 1, 2, 7, 7])},
        "voxel_mask": {3: np.ones(120, dtype=bool)},
        "batch_size": 100,
        "holdout_frac": 0.1,
    }


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_round_trip_and_prediction(tmp_path: Path, content: dict) -> None:
    model = load_checkpoint(save(tmp_path / "model.pt", content))
    assert list(model.readouts) == ["subj03"]
    assert (model.best_epoch, model.best_score, model.volume_shape["subj03"]) == (1, 0.25, (4, 5, 6))
    assert model.holdout_accuracy["subj03"].shape == (2, 5)
    images = torch.randint(0, 256, (7, 3, 99, 99), dtype=torch.uint8)
    whole, batched = (model.predict(images, "subj03", batch_size=size) for size in (7, 3))
    assert whole.shape == (7, 5)
    torch.testing.assert_close(whole, batched)


def test_checkpoints_of_numpy_1(tmp_path: Path, content: dict) -> None:
    """numpy 1 pickles its arrays as ``numpy.core``, which numpy 2 only keeps as a deprecated alias."""
    path = save(tmp_path / "model.pt", content)
    renamed = tmp_path / "renamed.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(renamed, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            new.writestr(item, data)
    assert load_checkpoint(renamed).best_epoch == 1


class Evil:
    """Unpickling runs a command that makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("place", ["val_cc", "surprise", "array"])
def test_code_in_the_file_does_not_run(tmp_path: Path, content: dict, place: str) -> None:
    trace = tmp_path / "trace"
    evil = np.array([Evil(trace)], dtype=object) if place == "array" else Evil(trace)
    path = save(tmp_path / "evil.pt", content | {place: evil})
    with pytest.raises(SourceError, match="refused"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Evil(trace), protocol=2))  # a bare pickle, torch's oldest format
    with pytest.raises(SourceError, match="refused"):
        load_checkpoint(path)
    assert not trace.exists()


def test_loading_leaves_no_allowance_behind(tmp_path: Path, content: dict) -> None:
    before = set(torch.serialization.get_safe_globals())
    load_checkpoint(save(tmp_path / "model.pt", content))
    assert set(torch.serialization.get_safe_globals()) == before


def test_damage(tmp_path: Path, content: dict) -> None:
    with pytest.raises(MissingDataError, match="no such file"):
        load_checkpoint(tmp_path / "absent.pt")
    path = save(tmp_path / "model.pt", content)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match="damaged"):
        load_checkpoint(path)
    save(path, content)
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1  # within the largest tensor
    path.write_bytes(flipped)
    with pytest.raises(SourceError, match=r"damaged .*checksum"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(SourceError):
        load_checkpoint(path)
    with pytest.raises(SourceError, match="holds a list"):
        load_checkpoint(save(path, [1, 2]))
    del content["best_params"]["enc"]["enc.conv5b.conv1.bias"]
    with pytest.raises(SourceError, match=r"not a checkpoint of the published GNet .*enc.conv5b.conv1.bias"):
        load_checkpoint(save(path, content))
