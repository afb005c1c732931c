r"""GNet's loss over one batch of a subject, and its gradients in one walk over the voxels.

For n trials, predictions :math:`r` and data :math:`d` (trial, voxel):

.. math::
    L = \sum_v u_v e_v / \bar u + \lambda \sum |w|, \qquad e_v = \sum_n (r_{nv} - d_{nv})^2, \qquad
    u_v = \mathrm{clip}\left(\frac{\mathrm{cov}(r_v, d_v)^2}{\mathrm{var}(r_v) \mathrm{var}(d_v) + 10^{-6}},
    0.1, 1\right),

with moments over the batch, and :math:`u` taken as a constant by the gradient: voxels that are predicted already pull
harder. All but the scalar :math:`\bar u` is separate for each voxel, so :func:`backpropagate` has predictions and
gradients of a block of voxels in one go (:func:`nsdflow.models.flexible_pooling.sweep`) and divides at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nsdflow.fit.gnet.parallel import Group
from nsdflow.models.flexible_pooling import compress, sweep

if TYPE_CHECKING:
    from nsdflow.models.flexible_pooling import Pointwise
    from nsdflow.models.gnet import Readout

__all__ = ["backpropagate", "gnet_loss", "voxel_weights"]

#: lambda: penalty on the sum of absolute readout weights; the published program holds 0.1 as a float32 number
L1_PENALTY = float(np.float32(0.1))


def voxel_weights(prediction: Tensor, target: Tensor, dim: int = 0, group: Group | None = None) -> Tensor:
    """u_v: squared correlation over the trials (axis ``dim``), clipped to [0.1, 1]; not differentiated.

    ``group`` says which processes have the other trials of the batch.
    """
    group = group or Group()
    both = torch.stack([prediction.detach(), target.detach()])
    r, d = both - group.mean(both, dim=dim + 1)
    covariance, r_variance, d_variance = group.mean(torch.stack([r * d, r * r, d * d]), dim=dim + 1).squeeze(dim + 1)
    return torch.clip(covariance.square() / (r_variance * d_variance + 1e-6), 0.1, 1.0)


def gnet_loss(prediction: Tensor, target: Tensor, weights: Tensor, *, l1: float = L1_PENALTY) -> Tensor:
    """L of the formula above, by autograd: the definition, against which :func:`backpropagate` is tested.

    ``prediction`` and ``target`` (trial, voxel), ``weights`` (voxel, feature) of the readout.
    """
    u = voxel_weights(prediction, target)
    errors = (prediction - target).square().sum(0)
    return (u * errors).sum() / u.mean() + l1 * weights.abs().sum()


def backpropagate(
    readout: Readout,
    levels: Sequence[Tensor],
    target: Tensor,
    *,
    into_encoder: bool,
    into_readout: bool,
    l1: float = L1_PENALTY,
    group: Group | None = None,
    pointwise: Pointwise | None = None,
) -> Tensor:
    """Add the gradients of L to the ``.grad`` of the encoder's or the readout's parameters, or both.

    Parameters
    ----------
    levels
        Feature maps of the batch, with their graph if ``into_encoder``.
    target
        (trial, voxel).
    group
        The processes that have the batch's other trials; gradients are those of this process's part, to be summed.
    pointwise
        As in :func:`nsdflow.models.flexible_pooling.sweep`.

    Returns
    -------
    Tensor
        (voxel,) squared errors e_v of the predictions before the step.
    """
    group = group or Group()
    data = target.T.contiguous()
    voxel_weight, errors = data.new_empty(len(data)), data.new_empty(len(data))

    def gradient(prediction: Tensor, voxels: slice) -> Tensor:
        residual = prediction - data[voxels]
        voxel_weight[voxels] = voxel_weights(prediction, data[voxels], 1, group)
        errors[voxels] = residual.square().sum(1)
        return residual.mul_(2 * voxel_weight[voxels, None])

    with torch.set_grad_enabled(into_encoder):
        maps = [compress(level.to(data.dtype).flatten(2)) for level in levels]
    with torch.set_grad_enabled(into_readout):
        fields = readout.fields()
    inputs = (maps, fields, readout.weights, readout.bias)
    with torch.no_grad():
        by = sweep(
            *inputs, gradient, into_maps=into_encoder, into_readout=into_readout, images_a_block=group.largest_part,
            pointwise=pointwise,
        )  # fmt: skip
        pairs = [*zip(maps, by.maps, strict=False), *zip(fields, by.fields, strict=False)]
        if by.weights is not None and by.bias is not None:
            pairs += [(readout.weights, by.weights), (readout.bias, by.bias)]
        for _, grad in pairs:
            grad.div_(voxel_weight.mean())
        if by.weights is not None:
            by.weights.add_(readout.weights.sign(), alpha=l1 / group.size)
    torch.autograd.backward([value for value, _ in pairs], [grad for _, grad in pairs])
    return errors
