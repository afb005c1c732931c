"""The trunk as compiled kernels, for GPUs: normalisation, dropout and rectification in one pass over each map.

Between two convolutions, :class:`~nsdflow.models.gnet.Trunk` makes four passes over the maps, and its backward pass
launches four kernels. ``torch.compile`` joins them. Each shape needs a separate graph. Therefore only whole batches run
compiled; the few others, such as the last batch of a subject, run on the plain path. Dropout is drawn outside the
graph, from the same generator in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from nsdflow.models.gnet import Trunk

__all__ = ["compiled_trunk", "trunk_compiles"]

TrunkFunction = Callable[[Tensor, torch.Generator | None], tuple[Tensor, Tensor]]


def compiled_trunk(trunk: Trunk, images: int) -> TrunkFunction:
    """A function equal to ``trunk`` within rounding that runs compiled for batches of ``images`` images."""

    def run(maps: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        convolve = _convolve() if len(maps) == images else Trunk.convolve
        return convolve(trunk, maps, trunk.draw(maps, generator))

    return run


@cache
def _convolve() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(Trunk.convolve, dynamic=False)


def trunk_compiles(device: torch.device) -> bool:
    """Whether the kernels compile on this machine (torch needs a C compiler) and agree with the plain trunk."""
    draw = torch.Generator().manual_seed(0)
    trunk = Trunk(width=2, generator=draw).to(device)
    maps = torch.rand(3, 192, 7, 7, generator=draw).to(device)
    try:
        found, expected = (_trained(run, trunk, maps) for run in (compiled_trunk(trunk, 3), trunk))
    except RuntimeError:  # base class of all errors of the compiler
        return False
    return all(torch.allclose(one, other, rtol=1e-2, atol=1e-4) for one, other in zip(found, expected, strict=True))


def _trained(run: TrunkFunction, trunk: Trunk, maps: Tensor) -> list[Tensor]:
    """Return both levels, and the gradient of their sum for each parameter."""
    trunk.zero_grad(set_to_none=True)
    levels = run(maps, torch.Generator(maps.device).manual_seed(1))
    torch.stack([level.sum() for level in levels]).sum().backward()
    return [*levels, *(parameter.grad for parameter in trunk.parameters() if parameter.grad is not None)]
