"""Optimizer of encoder and readouts, and its description in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from torch.optim import Adam, Optimizer

if TYPE_CHECKING:
    from torch import nn

    from nsdflow.fit.gnet.settings import TrainSettings

__all__ = ["UNRECORDED_OPTIMIZER", "describe_optimizers", "new_optimizer"]

#: Optimizer of checkpoints that name none, the published one. It stays as it is when the optimizer changes.
UNRECORDED_OPTIMIZER: Final = "Adam(betas=(0.9, 0.999), eps=1e-08)"
#: Entries of torch's parameter groups that are no constants of the optimizer, or affect rounding only.
_NO_CONSTANTS: Final = frozenset({"params", "initial_lr", "foreach", "fused", "capturable", "differentiable"})


def new_optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> Optimizer:
    """Return the published optimizer: Adam with torch's default decay rates."""
    return Adam(parameters, lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)


def describe_optimizers(optimizers: Iterable[Optimizer], learning_rate: float) -> str:
    """Describe kinds and constants, for the fingerprint of a training.

    Constants that are zero or off are left out, as is the learning rate of the settings. Equal descriptions stand once.

    Examples
    --------
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.zeros(1))
    >>> describe_optimizers([torch.optim.SGD([weight], lr=0.1, momentum=0.9)], learning_rate=0.1)
    'SGD(momentum=0.9)'
    """
    return "; ".join(dict.fromkeys(text for each in optimizers for text in _groups(each, learning_rate)))


def _groups(optimizer: Optimizer, learning_rate: float) -> Iterable[str]:
    for group in optimizer.param_groups:
        constants = {name: value for name, value in sorted(group.items()) if name not in _NO_CONSTANTS and value}
        if constants.get("lr") == learning_rate:
            del constants["lr"]
        yield f"{type(optimizer).__name__}({', '.join(f'{name}={value!r}' for name, value in constants.items())})"
