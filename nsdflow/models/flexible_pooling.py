r"""The flexible pooling readout, in blocks of voxels.

With :math:`F_l` the compressed feature maps of level *l* and :math:`\rho_l` a voxel's pooling field on it,

.. math::
    x_{vnc} = \sum_p \rho_{vp} F_{ncp}, \qquad \phi_{vnc} = f(x_{vnc}), \qquad
    r_{nv} = \sum_c \phi_{vnc} w_{vc} + b_v, \qquad f(x) = \log(1 + |x|) \tanh x.

The tensor :math:`\phi` (voxel, image, feature) takes gigabytes, and all operations on it are separate for each voxel.
It is therefore never kept: :func:`sweep` iterates over blocks of voxels. For each block it computes the predictions,
receives their gradient, and adds the gradients of maps, fields and weights before it continues.

Three callers share that one loop: prediction (no gradient), :func:`pooled_prediction` (an autograd function whose
backward repeats the loop), and the training step (``nsdflow.fit.gnet.loss``). In the training step the gradient of a
voxel's prediction depends on that voxel alone, so one loop computes forward and backward.

The same operations run on the CPU and on GPUs; only the sizes of the blocks differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "Gradient",
    "Pointwise",
    "Sweep",
    "by_level",
    "compress",
    "contributions",
    "pooled_prediction",
    "read_out",
    "sweep",
]

#: Bytes of x (voxel, image, feature) of one block; matrix products are faster with many voxels.
_BLOCK_BYTES = {"cpu": 24 << 20, "gpu": 256 << 20}
#: Bytes of a piece of x for elementwise operations, which fits in the cache (on GPUs x is not divided).
_PIECE_BYTES = {"cpu": 4 << 20, "gpu": 256 << 20}

#: (predictions of some voxels (voxel, image), which voxels) -> gradient of the loss with respect to them, same shape
Gradient = Callable[[Tensor, slice], Tensor]

#: :func:`read_out`, or a function that does the same
Pointwise = Callable[..., None]


@dataclass(frozen=True)
class Sweep:
    """Predictions (voxel, image), and the requested gradients, each in the shape of its variable."""

    prediction: Tensor
    maps: tuple[Tensor, ...] = ()
    fields: tuple[Tensor, ...] = ()
    weights: Tensor | None = None
    bias: Tensor | None = None


def sweep(
    maps: Sequence[Tensor],
    fields: Sequence[Tensor],
    weights: Tensor,
    bias: Tensor,
    gradient: Gradient | None = None,
    *,
    into_maps: bool = False,
    into_readout: bool = False,
    images_per_block: int = 0,
    pointwise: Pointwise | None = None,
) -> Sweep:
    """Predictions (voxel, image) and requested gradients of the readout, one block of voxels after another.

    Parameters
    ----------
    maps : sequence of Tensor, each (image, feature, pixel)
        Compressed feature maps, one tensor per level.
    fields : sequence of Tensor, each (voxel, pixel)
        Pooling fields, one tensor per level.
    weights : Tensor, (voxel, feature)
        Readout weights, with the features of all levels in order.
    bias : Tensor, (voxel,)
        Readout biases.
    gradient : callable, optional
        Returns the gradient of the loss with respect to the predictions of some voxels. If None, there is no backward.
    into_maps : bool
        Whether to return the gradient of ``maps``.
    into_readout : bool
        Whether to return the gradients of ``fields``, ``weights`` and ``bias``.
    images_per_block : int
        The blocks of voxels are chosen as if there were at least this many images. Processes that share a batch pass
        the same number, because they must call ``gradient`` for the same blocks.
    pointwise : callable, optional
        Computes predictions and gradients from the pooled values of a block; :func:`read_out` if None.
    """
    pointwise = pointwise or read_out
    images, voxels, device = maps[0].shape[0], weights.shape[0], _kind(weights)
    rows = [level.reshape(-1, level.shape[2]) for level in maps]
    # pixels first: matrix products into this layout are 1.5 times as fast as into the layout of the maps
    by_maps = [torch.zeros_like(level.T, memory_format=torch.contiguous_format) for level in rows if into_maps]
    result = Sweep(
        prediction=weights.new_empty(voxels, images),
        maps=tuple(grad.T.view(level.shape) for grad, level in zip(by_maps, maps, strict=into_maps)),
        fields=tuple(torch.empty_like(field) for field in fields if into_readout),
        weights=torch.empty_like(weights) if into_readout else None,
        bias=torch.empty_like(bias) if into_readout else None,
    )
    bytes_per_voxel = max(images, images_per_block, 1) * weights.shape[1] * weights.element_size()
    blocks = _even_slices(0, voxels, _BLOCK_BYTES[device] // bytes_per_voxel)
    width = [len(level) for level in rows]
    space = weights.new_empty(max(block.stop - block.start for block in blocks), sum(width))
    for block in blocks:
        x = space[: block.stop - block.start]
        pooled = x.split(width, dim=1)
        for target, field, level in zip(pooled, fields, rows, strict=True):
            torch.mm(field[block], level.T, out=target)
        for piece in _even_slices(block.start, block.stop, _PIECE_BYTES[device] // bytes_per_voxel):
            inside = slice(piece.start - block.start, piece.stop - block.start)
            pointwise(x[inside], images, [level.shape[1] for level in maps], piece, weights, bias, gradient, result)
        for target, field, by_pooled in zip(by_maps, fields, pooled, strict=into_maps):
            target.addmm_(field[block].T, by_pooled)
        for target, by_pooled, level in zip(result.fields, pooled, rows, strict=into_readout):
            torch.mm(by_pooled, level, out=target[block])
    return result


def read_out(
    x: Tensor,
    images: int,
    features: Sequence[int],
    voxels: slice,
    weights: Tensor,
    bias: Tensor,
    gradient: Gradient | None,
    result: Sweep,
) -> None:
    """Compute the predictions of some voxels from their pooled values ``x``, and overwrite ``x`` with its gradient.

    ``x`` (voxel, value) holds the levels in order, and within a level the images in order. Each image has as many
    values as the level has ``features``. Predictions and the requested gradients are written into ``result``.
    """
    phi = by_level(_compress_(x, differentiate=gradient is not None), images, features)
    level_weights = weights[voxels].split(list(features), dim=1)
    prediction = result.prediction[voxels]
    prediction.copy_(bias[voxels, None].expand_as(prediction))
    for values, weight in zip(phi, level_weights, strict=True):
        prediction.add_((values * weight[:, None]).sum(2))
    if gradient is None:
        return
    by_prediction = gradient(prediction, voxels)
    if result.weights is not None and result.bias is not None:
        by_weights = [torch.bmm(by_prediction[:, None], values).squeeze(1) for values in phi]
        torch.cat(by_weights, dim=1, out=result.weights[voxels])
        torch.sum(by_prediction, dim=1, out=result.bias[voxels])
    for slope, weight in zip(by_level(x, images, features), level_weights, strict=True):
        slope.mul_(by_prediction[:, :, None]).mul_(weight[:, None])


def by_level(x: Tensor, images: int, features: Sequence[int]) -> list[Tensor]:
    """Views (voxel, image, feature), one per level, of (voxel, value)."""
    parts = x.split([images * count for count in features], dim=1)
    return [part.unflatten(1, (images, count)) for part, count in zip(parts, features, strict=True)]


def _compress_(x: Tensor, *, differentiate: bool) -> Tensor:
    """f(x); ``x`` is overwritten, with f'(x) = |tanh x| / (1 + |x|) + log(1 + |x|) (1 - tanh(x)^2) if requested."""
    tanh = _tanh(x)
    size = x.abs_()
    log = torch.log1p(size)
    value = log * tanh
    if differentiate:
        slope = log.addcdiv_(tanh.abs(), size.add_(1))
        torch.addcmul(slope, value, tanh, value=-1, out=x)
    return value


def _tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent. On a CPU, oneDNN's is five times as fast as torch's, and differs in the last bits only."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return x.to_mkldnn().tanh().to_dense()
    return torch.tanh(x)


def _kind(x: Tensor) -> str:
    return "cpu" if x.device.type == "cpu" else "gpu"


def _even_slices(start: int, stop: int, longest: int) -> list[slice]:
    """Slices of at most ``longest`` items, of nearly equal length: a short last slice would waste a matrix product."""
    count = max(1, -(-(stop - start) // max(1, longest)))
    edges = [start + (stop - start) * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in pairwise(edges)]


class _Compress(torch.autograd.Function):
    """f elementwise. It saves only x for the backward; autograd of the formula would save four tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        result = x.clone(memory_format=torch.contiguous_format)
        for piece in _pieces(result):
            piece.copy_(_compress_(piece, differentiate=False))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        slope: Tensor = ctx.saved_tensors[0].clone(memory_format=torch.contiguous_format)
        for piece in _pieces(slope):
            _compress_(piece, differentiate=True)
        return slope.mul_(grad)


def _pieces(x: Tensor) -> Iterator[Tensor]:
    """Views of all of ``x`` that each fit in the cache."""
    yield from x.view(-1).split(max(1, _PIECE_BYTES[_kind(x)] // x.element_size()))


def compress(x: Tensor) -> Tensor:
    """``f(x) = log(1 + |x|) tanh(x)``, elementwise: close to ``x |x|`` near zero, logarithmic for large ``|x|``."""
    result: Tensor = _Compress.apply(x)
    return result


class _PooledPrediction(torch.autograd.Function):
    """The readout as one node of the graph: it saves its inputs, and its backward pools them again."""

    @staticmethod
    def forward(ctx: Any, levels: int, weights: Tensor, bias: Tensor, *maps_and_fields: Tensor) -> Tensor:
        ctx.levels = levels
        ctx.save_for_backward(weights, bias, *maps_and_fields)
        return sweep(maps_and_fields[:levels], maps_and_fields[levels:], weights, bias).prediction.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, bias, *maps_and_fields = ctx.saved_tensors
        levels = ctx.levels
        by_prediction = grad.T.contiguous()
        result = sweep(
            maps_and_fields[:levels],
            maps_and_fields[levels:],
            weights,
            bias,
            lambda _, voxels: by_prediction[voxels],
            into_maps=any(ctx.needs_input_grad[3 : 3 + levels]),
            into_readout=any(ctx.needs_input_grad[i] for i in (1, 2, *range(3 + levels, 3 + 2 * levels))),
        )
        nothing = (None,) * levels
        return None, result.weights, result.bias, *(result.maps or nothing), *(result.fields or nothing)


def pooled_prediction(maps: Sequence[Tensor], fields: Sequence[Tensor], weights: Tensor, bias: Tensor) -> Tensor:
    """Predictions (image, voxel), differentiable; memory beyond inputs and outputs does not depend on voxels.

    Arguments as in :func:`sweep`.
    """
    result: Tensor = _PooledPrediction.apply(len(maps), weights, bias, *maps, *fields)
    return result


@torch.no_grad()
def contributions(
    maps: Sequence[Tensor], fields: Sequence[Tensor], weights: Tensor, partitions: Sequence[slice]
) -> Tensor:
    """Compute the part of each partition of the features in the predictions: (image, voxel, partition), in one loop.

    Partitions that cover all features sum to the prediction minus the bias. Arguments as in :func:`sweep`.
    """
    images, voxels, device = maps[0].shape[0], weights.shape[0], _kind(weights)
    result = weights.new_empty(voxels, images, len(partitions))
    bytes_per_voxel = max(images, 1) * weights.shape[1] * weights.element_size()
    for block in _even_slices(0, voxels, _PIECE_BYTES[device] // bytes_per_voxel):
        pooled = [field[block] @ level.flatten(0, 1).T for field, level in zip(fields, maps, strict=True)]
        x = torch.cat([p.view(-1, *level.shape[:2]) for p, level in zip(pooled, maps, strict=True)], dim=2)
        phi = _compress_(x, differentiate=False)
        for number, part in enumerate(partitions):
            result[block, :, number] = torch.bmm(phi[:, :, part], weights[block, part, None]).squeeze(2)
    return result.transpose(0, 1)
