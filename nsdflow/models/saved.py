"""Finished GNet runs as plain torch modules: from images to predictions, with torch and safetensors alone.

The shapes of the tensors are enough to rebuild the networks. Neither Zarr, Dask nor the settings of the run are needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from nsdflow.errors import MissingDataError, RunError, one_of
from nsdflow.models.gnet import Encoder, LevelShape, Prefilter, Readout
from nsdflow.models.networks.weights import ALEXNET_SHAPES

__all__ = ["LOADABLE_KINDS", "SavedModel", "below", "build_encoder", "load_model", "load_readouts"]

#: Kinds of runs whose networks :func:`load_model` rebuilds.
LOADABLE_KINDS: Final = ("gnet",)


class SavedModel(nn.Module):
    """One subject's voxels, predicted by one trunk or by one trunk per group of areas.

    ``parts`` names the trunks with the number of voxels of each, in the order of the columns of the predictions. A run
    with a single trunk has its voxels in the order of its results.
    """

    def __init__(self, subject: str, trunks: Mapping[str, tuple[Encoder, Readout]]) -> None:
        super().__init__()
        self.subject = subject
        self.parts = {name: len(readout.bias) for name, (_, readout) in trunks.items()}
        self.encoders = nn.ModuleList(encoder for encoder, _ in trunks.values())
        self.readouts = nn.ModuleList(readout for _, readout in trunks.values())
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Predictions (image, voxel) of images (image, 3, y, x), uint8 or floats of 0 to 255."""
        pairs = zip(self.encoders, self.readouts, strict=True)
        return torch.cat([readout(encoder(images)) for encoder, readout in pairs], dim=1)


def load_model(run: str | os.PathLike[str], subject: str | None = None) -> SavedModel:
    """Load the networks of a finished GNet run.

    Parameters
    ----------
    run : path
        Folder of the run, or a copy of its ``model.safetensors``.
    subject : str, optional
        Subject such as ``"subj01"``; the only one if None.

    Returns
    -------
    SavedModel
        The networks, in evaluation mode, on the CPU.

    Raises
    ------
    MissingDataError
        The run does not exist or is not finished.
    RunError
        The file is damaged, or belongs to a run of another kind.
    SelectionError
        The run lacks the subject, or has several.

    Examples
    --------
    >>> model = nsdflow.load_model("runs/gnet8j", "subj01")  # doctest: +SKIP
    >>> predictions = model(images)  # doctest: +SKIP
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(run).expanduser()
    file = path if path.suffix == ".safetensors" else path / "model.safetensors"
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file; give the folder of a finished GNet run")
    try:
        state = load_file(file)
    except SafetensorError as error:
        raise RunError(f"{file}: damaged ({error}); run the same command again") from error
    parts = [""] if any(name.startswith("encoder.") for name in state) else _parts(state)
    subjects = sorted({name.split("readouts.")[1].split(".")[0] for name in state if "readouts." in name})
    if not parts or not subjects:
        kinds = ", ".join(LOADABLE_KINDS)
        raise RunError(f"{file}: no encoder and readouts in it; load_model takes runs of kind {kinds}")
    if subject is None and len(subjects) == 1:
        subject = subjects[0]
    if subject not in subjects:
        raise one_of(f"subject of {path}", subject, subjects)
    trunks = {}
    for part in parts:
        own = below(state, part) if part else state
        readouts = load_readouts(own)
        if subject in readouts:
            trunks[part or "joint"] = build_encoder(own), readouts[subject]
    return SavedModel(str(subject), trunks)


def _parts(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the trunks of a run with several."""
    return list(dict.fromkeys(name.split(".")[0] for name in state if ".encoder." in name and name[:6] != "final."))


def build_encoder(state: Mapping[str, Tensor], *, dropout: float = 0.5) -> Encoder:
    """Build the encoder of a trunk from its tensors, in evaluation mode, with their width."""
    own = below(state, "encoder")
    last = max(name for name in own if name.startswith("trunk.") and name.endswith(".conv.weight"))
    encoder = Encoder(_empty_prefilter(), len(own[last]), dropout=dropout)
    encoder.load_state_dict(own)
    return encoder.eval()


def load_readouts(state: Mapping[str, Tensor]) -> dict[str, Readout]:
    """Readouts by subject of the tensors of a trunk."""
    readouts = below(state, "readouts")
    subjects = sorted({name.split(".")[0] for name in readouts})
    return {subject: _readout(below(readouts, subject)) for subject in subjects}


def _readout(state: Mapping[str, Tensor]) -> Readout:
    logits = [state[name] for name in sorted(state) if name.startswith("pooling_logits")]
    features = state["weights"].shape[1]
    # the state lacks the number of features of each level; the shapes of a readout depend on their sum alone
    levels = [LevelShape(features if level == 0 else 0, *tensor.shape[1:]) for level, tensor in enumerate(logits)]
    readout = Readout(len(state["bias"]), levels)
    readout.load_state_dict(dict(state))
    return readout.eval()


def _empty_prefilter() -> Prefilter:
    """A prefilter of zeros, whose values the caller replaces."""
    shapes = {name: ALEXNET_SHAPES[name] for name in ("features.0", "features.3")}
    weights = {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    biases = {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    return Prefilter(weights | biases)


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors under a dotted prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
