"""The gradients of the loss in one pass against autograd of its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nsdflow.fit.gnet.loss import backpropagate, voxel_weights
from nsdflow.models import flexible_pooling
from nsdflow.models.gnet import LevelShape, Readout
from tests import definitions


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch):
    """A readout, levels and data with some voxels that are predicted and some that are not; several blocks."""
    monkeypatch.setitem(flexible_pooling._BLOCK_BYTES, "cpu", 3000)
    monkeypatch.setitem(flexible_pooling._PIECE_BYTES, "cpu", 1000)
    generator = torch.Generator().manual_seed(0)
    readout = Readout(11, [LevelShape(4, 3, 3), LevelShape(5, 2, 2)], generator=generator).double()
    with torch.no_grad():
        readout.weights.normal_(generator=generator)
        readout.weights[3, 2] = 0  # the penalty has no slope there
        for logits in readout.pooling_logits:
            logits.normal_(generator=generator)
    shapes = ((6, 4, 3, 3), (6, 5, 2, 2))
    levels = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    noise = torch.randn(6, 11, generator=generator, dtype=torch.float64)
    return readout, levels, readout(levels).detach() * 0.8 + noise * torch.linspace(0, 2, 11)


def by_definition(readout: Readout, levels: list[torch.Tensor], target: torch.Tensor) -> tuple[torch.Tensor, ...]:
    maps = [(torch.log1p(level.abs()) * level.tanh()).flatten(2) for level in levels]
    prediction = definitions.pooled_prediction(maps, readout.fields(), readout.weights, readout.bias)
    definitions.gnet_loss(prediction, target, readout.weights).backward()
    return (prediction - target).square().sum(0).detach(), *[t.grad for t in (*levels, *readout.parameters())]


@pytest.mark.parametrize(("into_encoder", "into_readout"), [(True, False), (False, True), (True, True)])
def test_gradients(problem, into_encoder: bool, into_readout: bool) -> None:
    readout, levels, target = problem
    expected = by_definition(readout, levels, target)
    tensors = (*levels, *readout.parameters())
    for tensor in tensors:
        tensor.grad = None
    errors = backpropagate(readout, levels, target, into_encoder=into_encoder, into_readout=into_readout)
    torch.testing.assert_close(errors, expected[0])
    wanted = [into_encoder] * len(levels) + [into_readout] * (len(tensors) - len(levels))
    for tensor, gradient, is_wanted in zip(tensors, expected[1:], wanted, strict=True):
        if is_wanted:
            torch.testing.assert_close(tensor.grad, gradient)
        else:
            assert tensor.grad is None


def test_weight_is_the_clipped_squared_correlation(problem) -> None:
    _, levels, target = problem
    prediction = problem[0](levels)
    weights = voxel_weights(prediction, target)
    assert not weights.requires_grad
    moments = [np.cov(r, d, ddof=0) for r, d in zip(prediction.detach().T, target.T, strict=True)]
    expected = [m[0, 1] ** 2 / (m[0, 0] * m[1, 1] + 1e-6) for m in moments]
    np.testing.assert_allclose(weights, np.clip(expected, 0.1, 1))
    assert weights.min() == 0.1
    torch.testing.assert_close(voxel_weights(prediction.T, target.T, dim=1), weights)
