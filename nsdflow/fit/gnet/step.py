"""Training steps of GNet on one batch: the published two steps, the joint step and the readout step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from nsdflow.errors import RunError
from nsdflow.fit.gnet.loss import backpropagate
from nsdflow.fit.gnet.optimizer import new_optimizer
from nsdflow.fit.gnet.parallel import Ranks, share_batches
from nsdflow.fit.precision import encoder_arithmetic
from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.models.compiled_readout import compiled_read_out, compiles
from nsdflow.models.compiled_trunk import TrunkFunction, compiled_trunk, trunk_compiles
from nsdflow.models.flexible_pooling import read_out
from nsdflow.models.gnet import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from nsdflow.fit.gnet.settings import TrainSettings
    from nsdflow.models.flexible_pooling import Pointwise
    from nsdflow.models.gnet import Readout

__all__ = [
    "TrainStep",
    "TrainingModules",
    "TrialBatch",
    "build_modules",
    "choose_pointwise",
    "choose_step",
    "choose_trunk",
]


@dataclass(frozen=True)
class TrainingModules:
    """Modules to train, and their optimizers.

    Parameters
    ----------
    encoder : torch.nn.Module
        Encoder of all subjects.
    readouts : mapping of str to Readout
        Readout of each subject.
    encoder_optimizer : torch.optim.Optimizer, optional
        Optimizer of the encoder; None if the encoder is frozen.
    readout_optimizers : mapping of str to torch.optim.Optimizer
        Optimizer of each readout.
    ranks : Ranks
        Processes that share each batch.
    trunk : callable, optional
        Trunk of the encoder, plain or compiled; None if the encoder has no trunk.
    pointwise : callable
        Kernel of the readouts between their matrix products.
    """

    encoder: nn.Module
    readouts: Mapping[str, Readout]
    encoder_optimizer: Optimizer | None
    readout_optimizers: Mapping[str, Optimizer]
    ranks: Ranks
    trunk: TrunkFunction | None
    pointwise: Pointwise


@dataclass(frozen=True)
class TrialBatch:
    """Trials of one subject.

    Parameters
    ----------
    subject : str
        Name of the subject.
    images : torch.Tensor
        (trial, 3, y, x) uint8 images, or their cached prefilter maps (trial, channel, y, x).
    responses : torch.Tensor
        (trial, voxel) responses.
    generator : torch.Generator
        Generator of the dropout masks of both passes.
    """

    subject: str
    images: Tensor
    responses: Tensor
    generator: torch.Generator


#: Function that trains on a batch and returns the squared error (voxel,).
TrainStep = Callable[[TrainingModules, TrialBatch, "TrainSettings"], "Tensor"]


def build_modules(
    encoder: nn.Module,
    readouts: Mapping[str, Readout],
    settings: TrainSettings,
    device: torch.device,
    ranks: Ranks | None = None,
) -> TrainingModules:
    """Move the modules to ``device``, set their training mode, and create their optimizers."""
    ranks = ranks or Ranks()
    share_batches(encoder, ranks)
    if device.type == "cuda":  # tensor cores need the channels-last memory format
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the types of torch
    encoder.to(device).train(settings.train_encoder or settings.frozen_encoder == "train")
    trained: list[nn.Parameter] = []
    if settings.train_encoder:
        if not isinstance(encoder, Encoder):
            raise RunError(f"{type(encoder).__name__} cannot be trained, only GNet's Encoder; set train_encoder=False")
        encoder.prefilter.requires_grad_(settings.train_prefilter)
        trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    for readout in readouts.values():
        readout.to(device)
    return TrainingModules(
        encoder=encoder,
        readouts=readouts,
        encoder_optimizer=new_optimizer(trained, settings) if trained else None,
        readout_optimizers={name: new_optimizer(readout.parameters(), settings) for name, readout in readouts.items()},
        ranks=ranks,
        trunk=choose_trunk(encoder, settings, device, ranks) if isinstance(encoder, Encoder) else None,
        pointwise=choose_pointwise(settings, device),
    )


def choose_pointwise(settings: TrainSettings, device: torch.device) -> Pointwise:
    """Return the readout kernel for ``settings.kernels``.

    Raises
    ------
    RunError
        ``kernels`` is "compiled", but compilation fails.
    """
    return compiled_read_out if _compile(settings, device, compiles) else read_out


def choose_trunk(encoder: Encoder, settings: TrainSettings, device: torch.device, ranks: Ranks) -> TrunkFunction:
    """Return the trunk for ``settings.kernels``. A trunk over several processes is plain, because it communicates.

    Raises
    ------
    RunError
        ``kernels`` is "compiled", but compilation fails.
    """
    if ranks.size == 1 and _compile(settings, device, trunk_compiles):
        return compiled_trunk(encoder.trunk, settings.batch_size)
    return cast(TrunkFunction, encoder.trunk)


def _compile(settings: TrainSettings, device: torch.device, works: Callable[[torch.device], bool]) -> bool:
    if settings.kernels == "plain" or (settings.kernels == "auto" and device.type != "cuda"):
        return False
    if works(device):
        return True
    if settings.kernels == "compiled":
        raise RunError(f"kernels: torch cannot compile them for {device} here; install a C compiler, or set plain")
    return False


def choose_step(settings: TrainSettings) -> TrainStep:
    """Return the step function for the settings."""
    if not settings.train_encoder:
        return _readout_step
    return _joint_step if PROTOCOLS[settings.protocol].joint_step else _published_step


def _published_step(modules: TrainingModules, batch: TrialBatch, settings: TrainSettings) -> Tensor:
    """Update the trunk; then update the readout with a second pass through the updated trunk."""
    encoder, trunk = cast(Encoder, modules.encoder), cast(TrunkFunction, modules.trunk)
    with torch.set_grad_enabled(settings.train_prefilter):
        maps = _run(encoder.prefilter, settings, batch.images)
    levels = _run(trunk, settings, maps, batch.generator)
    _backpropagate(modules, batch, levels, settings, into_encoder=True, into_readout=False)
    _update(modules.encoder_optimizer, modules.ranks)
    with torch.no_grad():
        if settings.train_prefilter:  # the update changed the prefilter
            maps = _run(encoder.prefilter, settings, batch.images)
        levels = _run(trunk, settings, maps, batch.generator)
    errors = _backpropagate(modules, batch, levels, settings, into_encoder=False, into_readout=True)
    _update(modules.readout_optimizers[batch.subject], modules.ranks)
    return errors


def _joint_step(modules: TrainingModules, batch: TrialBatch, settings: TrainSettings) -> Tensor:
    """Update the encoder and the readout with one pass."""
    encoder, trunk = cast(Encoder, modules.encoder), cast(TrunkFunction, modules.trunk)
    levels = _run(trunk, settings, _run(encoder.prefilter, settings, batch.images), batch.generator)
    errors = _backpropagate(modules, batch, levels, settings, into_encoder=True, into_readout=True)
    _update(modules.encoder_optimizer, modules.ranks)
    _update(modules.readout_optimizers[batch.subject], modules.ranks)
    return errors


def _readout_step(modules: TrainingModules, batch: TrialBatch, settings: TrainSettings) -> Tensor:
    """Update only the readout, on a frozen encoder."""
    with torch.no_grad():
        levels = _run(modules.encoder, settings, batch.images, batch.generator)
    errors = _backpropagate(modules, batch, levels, settings, into_encoder=False, into_readout=True)
    _update(modules.readout_optimizers[batch.subject], modules.ranks)
    return errors


def _run(module: Callable[..., Any], settings: TrainSettings, x: Tensor, *generator: torch.Generator) -> Any:
    with encoder_arithmetic(settings.precision, x.device):
        return module(x, *generator)


def _backpropagate(
    modules: TrainingModules,
    batch: TrialBatch,
    levels: Sequence[Tensor],
    settings: TrainSettings,
    *,
    into_encoder: bool,
    into_readout: bool,
) -> Tensor:
    return backpropagate(
        modules.readouts[batch.subject],
        levels,
        batch.responses,
        into_encoder=into_encoder,
        into_readout=into_readout,
        l1=settings.l1,
        ranks=modules.ranks,
        pointwise=modules.pointwise,
    )


def _update(optimizer: Optimizer | None, ranks: Ranks) -> None:
    """Apply an optimizer step, and clear the gradients before the next step."""
    if optimizer is not None:
        ranks.sum_gradients(parameter for part in optimizer.param_groups for parameter in part["params"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
