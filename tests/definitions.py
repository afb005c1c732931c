"""Definitions of GNet's prediction and loss in plain torch, for autograd."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nsdflow.fit.gnet.loss import L1_PENALTY, voxel_weights


def pooled_prediction(maps: Sequence[Tensor], fields: Sequence[Tensor], weights: Tensor, bias: Tensor) -> Tensor:
    """Predict (image, voxel) responses, with all of phi (voxel, image, feature) in memory."""
    pooled = [torch.einsum("vp,ncp->vnc", field, level) for field, level in zip(fields, maps, strict=True)]
    x = torch.cat(pooled, dim=2)
    phi = torch.log1p(x.abs()) * torch.tanh(x)
    return torch.einsum("vnc,vc->nv", phi, weights) + bias


def gnet_loss(prediction: Tensor, target: Tensor, weights: Tensor, *, l1: float = L1_PENALTY) -> Tensor:
    """Compute the loss L of (trial, voxel) predictions and data, and (voxel, feature) weights."""
    u = voxel_weights(prediction, target)
    errors = (prediction - target).square().sum(0)
    return (u * errors).sum() / u.mean() + l1 * weights.abs().sum()
