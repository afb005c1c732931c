"""The compiled readout against the plain one, and the fallback without a compiler."""

from __future__ import annotations

import shutil

import pytest
import torch

from nsdflow.errors import RunError
from nsdflow.fit.gnet import step
from nsdflow.fit.gnet.settings import TrainSettings
from nsdflow.models import compiled_readout, flexible_pooling
from nsdflow.models.compiled_readout import compiled_read_out, compiles
from nsdflow.models.flexible_pooling import read_out, sweep

CPU = torch.device("cpu")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++")


def both_ways(images: int, voxels: int, levels: list[tuple[int, int]]) -> list[flexible_pooling.Sweep]:
    generator = torch.Generator().manual_seed(images)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    maps = [normal(images, features, pixels) for features, pixels in levels]
    fields = [normal(voxels, pixels) for _, pixels in levels]
    weights, bias = normal(voxels, sum(features for features, _ in levels)), normal(voxels)
    return [
        sweep(maps, fields, weights, bias, lambda r, _: r.cos(), into_maps=True, into_readout=True, pointwise=how)
        for how in (read_out, compiled_read_out)
    ]


def tensors(result: flexible_pooling.Sweep) -> list[torch.Tensor]:
    assert result.weights is not None
    assert result.bias is not None
    return [result.prediction, *result.maps, *result.fields, result.weights, result.bias]


@pytest.mark.slow  # the compiler takes half a minute
@needs_compiler
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, as it loads its compiler
def test_compiled_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, levels and shapes with the same kernels; negative values too."""
    monkeypatch.setitem(flexible_pooling._BLOCK_BYTES, "cpu", 3000)
    monkeypatch.setitem(flexible_pooling._PIECE_BYTES, "cpu", 1500)
    for images, voxels, levels in ((5, 11, [(4, 3), (6, 2)]), (7, 4, [(4, 3), (6, 2)]), (3, 5, [(5, 6)])):
        plain, compiled = both_ways(images, voxels, levels)
        assert len(compiled.maps) == len(compiled.fields) == len(levels)
        for found, expected in zip(tensors(compiled), tensors(plain), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert compiles(CPU)
    assert step.choose_pointwise(TrainSettings(kernels="compiled"), CPU) is compiled_read_out


def test_without_a_compiler_the_plain_one_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("InvalidCxxCompiler")

    monkeypatch.setattr(compiled_readout, "_kernels", lambda: (no_compiler, no_compiler))
    assert not compiles(CPU)
    with pytest.raises(RunError, match="cannot compile them for cpu"):
        step.choose_pointwise(TrainSettings(kernels="compiled"), CPU)
    monkeypatch.setattr(step, "compiles", lambda device: False)
    assert step.choose_pointwise(TrainSettings(), torch.device("cuda")) is read_out


def test_kernels_that_are_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        compiled_readout, "_kernels", lambda: (lambda x, w: x.sum(2), lambda x, w, g: torch.zeros_like(w))
    )
    assert not compiles(CPU)


def test_auto_compiles_nothing_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "compiles", pytest.fail)
    assert step.choose_pointwise(TrainSettings(), CPU) is read_out
