"""The trunk as compiled kernels, for GPUs: normalisation, dropout and rectification in one pass over each map.

Between two convolutions of :class:`~nsdflow.models.gnet.Trunk` lie four passes over the maps, and as many launches on
the way back. ``torch.compile`` joins them. A graph is made for each shape, so only whole batches take it; the few
others, such as a subject's last one, go the plain way. Dropout is drawn outside, from the same generator in the same
order.
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
    """A function like ``trunk`` itself that runs compiled for batches of so many images, the same but for rounding."""

    def run(maps: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        convolve = _convolve() if len(maps) == images else Trunk.convolve
        return convolve(trunk, maps, trunk.draw(maps, generator))

    return run


@cache
def _convolve() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(Trunk.convolve, dynamic=False)


def trunk_compiles(device: torch.device) -> bool:
    """Whether the kernels can be made here (torch needs a C compiler for it) and agree with the plain trunk."""
    draw = torch.Generator().manual_seed(0)
    trunk = Trunk(width=2, generator=draw).to(device)
    maps = torch.rand(3, 192, 7, 7, generator=draw).to(device)
    try:
        found, expected = (_trained(run, trunk, maps) for run in (compiled_trunk(trunk, 3), trunk))
    except RuntimeError:  # all of the compiler's errors are kinds of it
        return False
    return all(torch.allclose(one, other, rtol=1e-2, atol=1e-4) for one, other in zip(found, expected, strict=True))


def _trained(run: TrunkFunction, trunk: Trunk, maps: Tensor) -> list[Tensor]:
    """Both levels and the gradients of all parameters by their sum."""
    trunk.zero_grad(set_to_none=True)
    levels = run(maps, torch.Generator(maps.device).manual_seed(1))
    torch.stack([level.sum() for level in levels]).sum().backward()
    return [*levels, *(parameter.grad for parameter in trunk.parameters() if parameter.grad is not None)]
