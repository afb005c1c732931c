"""The readout's pointwise part as compiled kernels, for GPUs: each value of x is read once instead of thirty times.

Between the matrix products of :func:`nsdflow.models.flexible_pooling.sweep`, every pooled value goes through some
thirty elementwise operations. On a GPU, each of them is a pass over memory. ``torch.compile`` joins them into two
kernels. The first computes the predictions from x. The second computes the gradients of x and of the weights, from x
and the gradient of the predictions. The formula is that of the plain path, which the kernels replace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from nsdflow.models.flexible_pooling import Gradient, Sweep, by_level, read_out, sweep

__all__ = ["compiled_read_out", "compiles"]


def compiled_read_out(
    x: Tensor,
    images: int,
    features: Sequence[int],
    voxels: slice,
    weights: Tensor,
    bias: Tensor,
    gradient: Gradient | None,
    result: Sweep,
) -> None:
    """As :func:`nsdflow.models.flexible_pooling.read_out`."""
    predict, differentiate = _kernels()
    levels = by_level(x, images, features)
    level_weights = weights[voxels].split(list(features), dim=1)
    prediction = result.prediction[voxels]
    prediction.copy_(bias[voxels, None].expand_as(prediction))
    for values, weight in zip(levels, level_weights, strict=True):
        prediction.add_(predict(values, weight))
    if gradient is None:
        return
    by_prediction = gradient(prediction, voxels)
    by_weights = [
        differentiate(values, weight, by_prediction) for values, weight in zip(levels, level_weights, strict=True)
    ]
    if result.weights is not None and result.bias is not None:
        torch.cat(by_weights, dim=1, out=result.weights[voxels])
        torch.sum(by_prediction, dim=1, out=result.bias[voxels])


@cache
def _kernels() -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    return torch.compile(_predict, dynamic=True), torch.compile(_differentiate_, dynamic=True)


def _predict(x: Tensor, weights: Tensor) -> Tensor:
    """Contribution (voxel, image) of the features of one level, x (voxel, image, feature), to the predictions."""
    return (torch.log1p(x.abs()) * torch.tanh(x) * weights[:, None]).sum(2)


def _differentiate_(x: Tensor, weights: Tensor, by_prediction: Tensor) -> Tensor:
    """Overwrite x with its gradient, and return that of the weights (voxel, feature)."""
    size, tanh = x.abs(), torch.tanh(x)
    log = torch.log1p(size)
    value = log * tanh
    slope = tanh.abs() / (1 + size) + log - value * tanh
    by_weights = (value * by_prediction[:, :, None]).sum(1)
    x.copy_(slope * by_prediction[:, :, None] * weights[:, None])
    return by_weights


@torch.no_grad()
def compiles(device: torch.device) -> bool:
    """Whether the kernels compile on this machine (torch needs a C compiler) and agree with the plain path."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(5, 6, 4, generator=generator).to(device) for _ in range(2)]
    fields = [torch.rand(7, 4, generator=generator).to(device) for _ in range(2)]
    weights, bias = torch.randn(7, 12, generator=generator).to(device), torch.zeros(7, device=device)
    try:
        found, expected = (
            sweep(maps, fields, weights, bias, lambda r, _: r.cos(), into_maps=True, into_readout=True, pointwise=how)
            for how in (compiled_read_out, read_out)
        )
    except RuntimeError:  # base class of all errors of the compiler
        return False
    pairs = [(found.prediction, expected.prediction), *zip(found.maps, expected.maps, strict=True)]
    return all(torch.allclose(one, other, rtol=1e-3, atol=1e-5) for one, other in pairs)
