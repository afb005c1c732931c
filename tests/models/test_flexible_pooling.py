"""The blocked readout against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.profiler import ProfilerActivity, profile

from nsdflow.models import flexible_pooling
from nsdflow.models.flexible_pooling import compress, pooled_prediction, sweep
from tests import definitions


def draw(seed: int, images: int, voxels: int, levels: list[tuple[int, int]], dtype: torch.dtype = torch.float64):
    """Maps, fields, weights and bias for levels of (features, pixels)."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(images, c, p, generator=generator, dtype=dtype) for c, p in levels]
    fields = [torch.rand(voxels, p, generator=generator, dtype=dtype).softmax(1) for _, p in levels]
    weights = torch.randn(voxels, sum(c for c, _ in levels), generator=generator, dtype=dtype)
    return maps, fields, weights, torch.randn(voxels, generator=generator, dtype=dtype)


def test_compress_is_its_formula_and_keeps_its_input() -> None:
    x = torch.linspace(-30, 30, 1001, dtype=torch.float64)
    before = x.clone()
    torch.testing.assert_close(compress(x), torch.log(1 + x.abs()) * torch.tanh(x))
    torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1, 30])
def test_compress_in_float32_is_exact_to_its_last_bits(scale: float) -> None:
    """The fast tanh of the CPU has a relative error no larger than torch's, also for tiny values."""
    x = (torch.linspace(-scale, scale, 10001) + scale / 20002).requires_grad_()
    exact = x.detach().double().requires_grad_()
    formula = torch.log1p(exact.abs()) * torch.tanh(exact)
    torch.testing.assert_close(compress(x).double(), formula, rtol=5e-7, atol=0)
    (slope,) = torch.autograd.grad(compress(x).sum(), x)
    torch.testing.assert_close(slope.double(), torch.autograd.grad(formula.sum(), exact)[0], rtol=5e-6, atol=1e-7)


def test_compress_gradient() -> None:
    assert gradcheck(compress, torch.linspace(-3, 3, 24, dtype=torch.float64, requires_grad=True))
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    compress(zero).backward()
    assert zero.grad == 0


def test_gradients_in_float64() -> None:
    maps, fields, weights, bias = draw(0, images=3, voxels=5, levels=[(4, 6), (3, 2)])
    inputs = [*maps, *fields, weights, bias]
    for tensor in inputs:
        tensor.requires_grad_()

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        return pooled_prediction(tensors[:2], tensors[2:4], tensors[4], tensors[5])

    assert gradcheck(function, inputs)


@settings(max_examples=25)
@given(
    images=st.integers(1, 6),
    voxels=st.integers(1, 9),
    levels=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 7)), min_size=1, max_size=3),
    block=st.integers(1, 4000),
    piece=st.integers(1, 4000),
)
def test_blocks_change_nothing(images, voxels, levels, block, piece) -> None:
    maps, fields, weights, bias = draw(1, images, voxels, levels)
    inputs = [tensor.requires_grad_() for tensor in (*maps, *fields, weights, bias)]
    expected = definitions.pooled_prediction(maps, fields, weights, bias)
    upstream = torch.randn_like(expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(flexible_pooling._BLOCK_BYTES, "cpu", block)
        patch.setitem(flexible_pooling._PIECE_BYTES, "cpu", piece)
        found = pooled_prediction(maps, fields, weights, bias)
        gradients = torch.autograd.grad(found, inputs, upstream)
    torch.testing.assert_close(found, expected)
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, inputs, upstream), strict=True):
        torch.testing.assert_close(gradient, reference)


def test_only_what_is_asked_for() -> None:
    maps, fields, weights, bias = draw(2, images=2, voxels=3, levels=[(4, 5)])
    result = sweep(maps, fields, weights, bias, lambda prediction, _: prediction, into_maps=True)
    assert len(result.maps) == 1
    assert (result.fields, result.weights, result.bias) == ((), None, None)
    result = sweep(maps, fields, weights, bias, lambda prediction, _: prediction, into_readout=True)
    assert result.maps == ()
    assert result.weights is not None


def peak_bytes(voxels: int) -> int:
    """Peak bytes allocated by one pass with all gradients, without its results."""
    maps, fields, weights, bias = draw(3, images=20, voxels=voxels, levels=[(32, 49)], dtype=torch.float32)
    results = sum(x.numel() * x.element_size() for x in (*maps, *fields, weights, bias, weights.new_empty(voxels, 20)))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as records:
        kept = sweep(maps, fields, weights, bias, lambda r, _: r.clone(), into_maps=True, into_readout=True)
    assert kept.weights is not None
    held = peak = 0
    for event in records.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak - results


def test_memory_does_not_depend_on_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(flexible_pooling._BLOCK_BYTES, "cpu", 1 << 20)
    monkeypatch.setitem(flexible_pooling._PIECE_BYTES, "cpu", 1 << 18)
    few, many = peak_bytes(1600), peak_bytes(16000)  # both in blocks of 400
    phi = 16000 * 20 * 32 * 4
    assert few < 3 << 20
    assert many == pytest.approx(few, rel=0.1)
    assert many < phi / 10
