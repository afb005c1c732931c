"""GNet from its tensors: their shapes are enough to rebuild the networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nsdflow.errors import RunError
from nsdflow.models.gnet import Encoder, LevelShape, Prefilter, Readout
from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from nsdflow.models.saved.parts import Part, below, only_subject

__all__ = ["build_encoder", "gnet_trunks", "load_readouts"]


def gnet_trunks(file: Path, state: Mapping[str, Tensor], subject: str | None) -> tuple[str, list[Part]]:
    """Trunks with the readouts of one subject.

    Parameters
    ----------
    file : Path
        File of the tensors, for messages.
    state : mapping of str to Tensor
        Tensors of a GNet run.
    subject : str or None
        Such as ``"subj01"``; the only one if None.

    Returns
    -------
    subject : str
        The subject.
    parts : list of Part
        One part per trunk, named after its group of areas.
    """
    groups = [""] if any(name.startswith("encoder.") for name in state) else _parts(state)
    subjects = sorted({name.split("readouts.")[1].split(".")[0] for name in state if "readouts." in name})
    if not groups or not subjects:
        raise RunError(f"{file}: no model in it; load_model takes the model.safetensors of a run")
    subject = only_subject(file, subject, subjects)
    parts = []
    for group in groups:
        own = below(state, group) if group else state
        readouts = load_readouts(own)
        if subject in readouts:
            parts.append(Part(group or "joint", build_encoder(own), readouts[subject]))
    return subject, parts


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
