"""The compiled trunk against the plain one, and the fallback without a compiler."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch

from nsdflow.errors import RunError
from nsdflow.fit.gnet import step
from nsdflow.fit.gnet.parallel import Ranks
from nsdflow.fit.gnet.settings import TrainSettings
from nsdflow.models import compiled_trunk as module
from nsdflow.models.compiled_trunk import compiled_trunk, trunk_compiles
from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import Encoder, Prefilter, Trunk

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    generator = torch.Generator().manual_seed(0)
    return Encoder(Prefilter(gabor_prefilter_weights(0)), width=3, dropout=0.3, generator=generator).double()


def trained(run: module.TrunkFunction, trunk: Trunk, images: int) -> list[torch.Tensor]:
    """Levels, gradients and running statistics of a pass, and the levels of a second one without gradients."""
    maps = torch.rand(images, 192, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(images))
    generator = torch.Generator().manual_seed(7)
    levels = run(maps, generator)
    torch.stack([(level * level.detach().cos()).sum() for level in levels]).sum().backward()
    with torch.no_grad():
        again = run(maps, generator)
    gradients = [parameter.grad for parameter in trunk.parameters() if parameter.grad is not None]
    assert len(gradients) == len(list(trunk.parameters()))
    return [*levels, *again, *gradients, *(buffer.double() for buffer in trunk.buffers())]


@pytest.mark.slow  # the compiler takes a minute
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, as it loads its compiler
def test_compiled_is_plain(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trunks with one graph, whole batches and a short one, which must not be compiled."""
    for _ in range(2):
        one, other = copy.deepcopy(encoder.trunk), copy.deepcopy(encoder.trunk)
        run = compiled_trunk(one, images=6)
        for images in (6, 4):
            for found, expected in zip(trained(run, one, images), trained(other, other, images), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert trunk_compiles(CPU)
    chosen = step.choose_trunk(encoder, TrainSettings(kernels="compiled", batch_size=6), CPU, Ranks())
    assert chosen is not encoder.trunk


def test_short_batches_take_the_plain_way(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "_convolve", lambda: lambda trunk, *rest: calls.append(1) or trunk.convolve(*rest))
    run, maps = compiled_trunk(encoder.trunk, images=6), torch.rand(6, 192, 9, 9, dtype=torch.float64)
    for images in (6, 5, 6, 1):
        run(maps[:images], torch.Generator().manual_seed(0))
    assert len(calls) == 2


def test_without_a_compiler_the_plain_one_serves(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object) -> tuple[torch.Tensor, torch.Tensor]:
        raise RuntimeError("InvalidCxxCompiler")

    monkeypatch.setattr(module, "_convolve", lambda: no_compiler)
    assert not trunk_compiles(CPU)
    with pytest.raises(RunError, match="cannot compile them for cpu"):
        step.choose_trunk(encoder, TrainSettings(kernels="compiled"), CPU, Ranks())
    monkeypatch.setattr(step, "trunk_compiles", lambda device: False)
    assert step.choose_trunk(encoder, TrainSettings(), CUDA, Ranks()) is encoder.trunk


def test_kernels_that_are_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_convolve", lambda: lambda *all_: [0.9 * level for level in Trunk.convolve(*all_)])
    assert not trunk_compiles(CPU)


def test_several_processes_and_a_cpu_left_to_itself_stay_plain(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "trunk_compiles", pytest.fail)
    assert step.choose_trunk(encoder, TrainSettings(), CPU, Ranks()) is encoder.trunk
    assert step.choose_trunk(encoder, TrainSettings(kernels="compiled"), CUDA, Ranks(0, 2)) is encoder.trunk
