"""Networks of finished runs, built again from ``run.yaml`` and ``model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nsdflow.config.load import load_pipeline
from nsdflow.config.pipeline import GNetPipeline
from nsdflow.errors import MissingDataError, RunError, one_of
from nsdflow.models.gnet import Encoder, LevelShape, Prefilter, Readout
from nsdflow.models.networks.weights import ALEXNET_SHAPES
from nsdflow.runs.tensors import load_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from nsdflow.runs.folder import RunFolder

__all__ = ["SavedGNet", "load_gnet", "load_readouts"]


@dataclass(frozen=True)
class SavedGNet:
    """One trunk of a finished GNet run, with the readouts of its voxels by subject; on the CPU, in eval mode."""

    config: GNetPipeline
    encoder: Encoder
    readouts: Mapping[str, Readout]


def load_gnet(run: RunFolder, part: str | None = None) -> SavedGNet:
    """The best epoch's networks of a GNet run.

    Parameters
    ----------
    part
        The ROI group whose trunk is wanted, in a run with several.

    Raises
    ------
    MissingDataError
        If there is no such run, or it is not finished.
    RunError
        If it is a run of another kind.
    SelectionError
        If the run has no such trunk.
    """
    if not run.finished:
        raise MissingDataError(f"{run.path}: no finished run; do nsdflow run first")
    config = load_pipeline(run.record()["pipeline"])
    if not isinstance(config, GNetPipeline):
        raise RunError(f"{run.path} is a run of kind {config.kind}; a GNet run is needed")
    groups = config.roi_groups or ()
    if (part is None) != (len(groups) < 2) or (part is not None and part not in groups):
        raise one_of(f"trunk in {run.path}", part, groups)
    state = load_tensors(run.url("model.safetensors"))
    if part is not None:
        state = _below(state, part)
    encoder = Encoder(_empty_prefilter(), config.width, dropout=config.train.dropout)
    encoder.load_state_dict(_below(state, "encoder"))
    return SavedGNet(config, encoder.eval(), load_readouts(state))


def load_readouts(state: Mapping[str, Tensor]) -> dict[str, Readout]:
    """Readouts by subject of the tensors of a run."""
    readouts = _below(state, "readouts")
    subjects = sorted({name.split(".")[0] for name in readouts})
    return {subject: _readout(_below(readouts, subject)) for subject in subjects}


def _readout(state: Mapping[str, Tensor]) -> Readout:
    logits = [state[name] for name in sorted(state) if name.startswith("pooling_logits")]
    features = state["weights"].shape[1]
    # the features of a level are not in the state: only their sum matters to the shapes of a readout
    levels = [LevelShape(features if level == 0 else 0, *tensor.shape[1:]) for level, tensor in enumerate(logits)]
    readout = Readout(len(state["bias"]), levels)
    readout.load_state_dict(dict(state))
    return readout.eval()


def _empty_prefilter() -> Prefilter:
    """A prefilter whose values are about to be replaced."""
    shapes = {name: ALEXNET_SHAPES[name] for name in ("features.0", "features.3")}
    weights = {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    biases = {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    return Prefilter(weights | biases)


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors under a dotted prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
