"""Optimizer of encoder and readouts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch.optim import Adam, Optimizer

if TYPE_CHECKING:
    from torch import nn

    from nsdflow.fit.gnet.settings import TrainSettings

__all__ = ["new_optimizer"]


def new_optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> Optimizer:
    """Return the published optimizer: Adam with torch's default decay rates."""
    return Adam(parameters, lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)
