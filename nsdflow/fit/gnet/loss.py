r"""Loss of GNet over one batch of a subject, and its gradients in one pass over the voxels.

For trials n, voxels v, predictions :math:`r` and data :math:`d` (trial, voxel), and readout weights :math:`w`
(voxel, feature):

.. math::
    L = \sum_v u_v e_v / \bar u + \lambda \sum |w|, \qquad e_v = \sum_n (r_{nv} - d_{nv})^2, \qquad
    u_v = \mathrm{clip}\left(\frac{\mathrm{cov}(r_v, d_v)^2}{\mathrm{var}(r_v) \mathrm{var}(d_v) + 10^{-6}},
    0.1, 1\right),

Moments are taken over the batch, and the gradient treats :math:`u` (voxel,) as a constant. Voxels with better
predictions therefore have larger weight. All terms except the scalar :math:`\bar u` (the mean of :math:`u` over
voxels) are separate for each voxel. :func:`backpropagate` therefore computes predictions and gradients block by block
of voxels (:func:`nsdflow.models.flexible_pooling.sweep`), and divides by :math:`\bar u` at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nsdflow.fit.gnet.parallel import Ranks
from nsdflow.models.flexible_pooling import Pointwise, compress, sweep
from nsdflow.models.gnet import Readout

__all__ = ["backpropagate", "voxel_weights"]

#: Penalty lambda on the sum of absolute readout weights. The published program stores 0.1 as float32.
L1_PENALTY = float(np.float32(0.1))


def voxel_weights(prediction: Tensor, target: Tensor, dim: int = 0, ranks: Ranks | None = None) -> Tensor:
    """Compute u (voxel,): squared correlation over the trials (axis ``dim``), clipped to [0.1, 1], without gradient.

    The other processes of ``ranks`` hold the rest of the batch.
    """
    ranks = ranks or Ranks()
    both = torch.stack([prediction.detach(), target.detach()])
    r, d = both - ranks.mean(both, dim=dim + 1)
    covariance, r_variance, d_variance = ranks.mean(torch.stack([r * d, r * r, d * d]), dim=dim + 1).squeeze(dim + 1)
    return torch.clip(covariance.square() / (r_variance * d_variance + 1e-6), 0.1, 1.0)


def backpropagate(
    readout: Readout,
    levels: Sequence[Tensor],
    target: Tensor,
    *,
    into_encoder: bool,
    into_readout: bool,
    l1: float = L1_PENALTY,
    ranks: Ranks | None = None,
    pointwise: Pointwise | None = None,
) -> Tensor:
    """Add the gradients of L to ``.grad`` of the parameters of the encoder, the readout or both.

    Parameters
    ----------
    levels : sequence of torch.Tensor
        Feature maps (trial, channel, y, x) of the batch, one per level. They need their graph if ``into_encoder``.
    target : torch.Tensor
        (trial, voxel) data d.
    into_encoder, into_readout : bool
        Parameters that receive gradients.
    l1 : float
        Penalty lambda.
    ranks : Ranks, optional
        Processes that hold the other trials of the batch. Gradients are those of this process and must be summed over
        the ranks.
    pointwise : callable, optional
        Kernel of the readout, as in :func:`nsdflow.models.flexible_pooling.sweep`.

    Returns
    -------
    torch.Tensor
        (voxel,) squared errors e_v of the predictions before the step.
    """
    ranks = ranks or Ranks()
    data = target.T.contiguous()  # (voxel, trial)
    voxel_weight, errors = data.new_empty(len(data)), data.new_empty(len(data))

    # gradient of sum_v u_v e_v with respect to r: 2 u_v (r_v - d_v), (voxel, trial), to be divided by the mean of u
    def gradient(prediction: Tensor, voxels: slice) -> Tensor:
        residual = prediction - data[voxels]
        voxel_weight[voxels] = voxel_weights(prediction, data[voxels], 1, ranks)
        errors[voxels] = residual.square().sum(1)
        return residual.mul_(2 * voxel_weight[voxels, None])

    with torch.set_grad_enabled(into_encoder):
        maps = [compress(level.to(data.dtype).flatten(2)) for level in levels]
    with torch.set_grad_enabled(into_readout):
        fields = readout.fields()
    inputs = (maps, fields, readout.weights, readout.bias)
    with torch.no_grad():
        by = sweep(
            *inputs, gradient, into_maps=into_encoder, into_readout=into_readout, images_per_block=ranks.largest_part,
            pointwise=pointwise,
        )  # fmt: skip
        pairs = [*zip(maps, by.maps, strict=False), *zip(fields, by.fields, strict=False)]
        if by.weights is not None and by.bias is not None:
            pairs += [(readout.weights, by.weights), (readout.bias, by.bias)]
        for _, grad in pairs:
            grad.div_(voxel_weight.mean())
        if by.weights is not None:
            by.weights.add_(readout.weights.sign(), alpha=l1 / ranks.size)
    torch.autograd.backward([value for value, _ in pairs], [grad for _, grad in pairs])
    return errors
