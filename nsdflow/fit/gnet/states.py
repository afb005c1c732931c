"""State of the modules of a training: taken for a checkpoint, and loaded from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsdflow.fit.gnet.checkpoint import OptimizerStates, Snapshot

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nsdflow.fit.gnet.checkpoint import Checkpoint
    from nsdflow.fit.gnet.step import TrainingModules

__all__ = ["optimizer_states", "restore", "snapshot"]


def snapshot(modules: TrainingModules) -> Snapshot:
    """Copy all parameters and running statistics to the CPU."""
    readouts = {name: _copied(readout) for name, readout in modules.readouts.items()}
    return Snapshot(_copied(modules.encoder), readouts)


def optimizer_states(modules: TrainingModules) -> OptimizerStates:
    """Collect the states of all optimizers."""
    encoder = modules.encoder_optimizer
    readouts = {name: optimizer.state_dict() for name, optimizer in modules.readout_optimizers.items()}
    return OptimizerStates(None if encoder is None else encoder.state_dict(), readouts)


def restore(checkpoint: Checkpoint, modules: TrainingModules) -> None:
    """Load the states of a checkpoint into the modules and optimizers of a training."""
    modules.encoder.load_state_dict(checkpoint.modules.encoder)
    for name, readout in modules.readouts.items():
        readout.load_state_dict(checkpoint.modules.readouts[name])
        modules.readout_optimizers[name].load_state_dict(checkpoint.optimizers.readouts[name])
    if modules.encoder_optimizer is not None and checkpoint.optimizers.encoder is not None:
        modules.encoder_optimizer.load_state_dict(checkpoint.optimizers.encoder)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.cpu().clone() for key, value in module.state_dict().items()}
