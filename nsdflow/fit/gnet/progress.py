"""Progress of a training: the state that a checkpoint stores between epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from nsdflow.fit.gnet.step import TrainingModules

__all__ = ["Progress", "gather", "restore", "snapshot"]


@dataclass
class Progress:
    """State besides the network. ``epoch`` is the next epoch, and ``best`` a :func:`snapshot` of the best one."""

    epoch: int = 0
    best_epoch: int | None = None
    best_score: float = 0.0
    best: dict[str, dict[str, Tensor]] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    holdout_accuracy: dict[str, list[Tensor]] = field(default_factory=dict)


def snapshot(network: TrainingModules) -> dict[str, dict[str, Tensor]]:
    """Copy all parameters and running statistics to the CPU."""
    states: dict[str, Mapping[str, Tensor]] = {"encoder": network.encoder.state_dict()}
    states |= {f"readout:{name}": readout.state_dict() for name, readout in network.readouts.items()}
    return {part: {key: value.cpu().clone() for key, value in state.items()} for part, state in states.items()}


def gather(network: TrainingModules, progress: Progress) -> dict[str, Any]:
    """Collect the full state of a training between two epochs, for :func:`restore`."""
    optimizers = {f"readout:{name}": optimizer.state_dict() for name, optimizer in network.readout_optimizers.items()}
    if network.encoder_optimizer is not None:
        optimizers["encoder"] = network.encoder_optimizer.state_dict()
    now = {name.name: getattr(progress, name.name) for name in fields(progress)}
    return {"network": snapshot(network), "optimizers": optimizers, "progress": now}


def restore(state: Mapping[str, Any], network: TrainingModules) -> Progress:
    """Load a state from :func:`gather` into ``network``, and return its progress."""
    network.encoder.load_state_dict(state["network"]["encoder"])
    for name, readout in network.readouts.items():
        readout.load_state_dict(state["network"][f"readout:{name}"])
        network.readout_optimizers[name].load_state_dict(state["optimizers"][f"readout:{name}"])
    if network.encoder_optimizer is not None:
        network.encoder_optimizer.load_state_dict(state["optimizers"]["encoder"])
    return Progress(**state["progress"])
