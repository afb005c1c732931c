"""GNet's networks: shapes, quirks, initial values, and sources of random numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import (
    Encoder,
    FrozenEncoder,
    LevelShape,
    Prefilter,
    Readout,
    Trunk,
    bipartite_slices,
    layer_slices,
    level_shapes,
)
from tests import definitions


@pytest.fixture(scope="module")
def prefilter() -> Prefilter:
    return Prefilter(gabor_prefilter_weights(0), mean=(0.5, 0.45, 0.4))


def images(count: int, size: int) -> torch.Tensor:
    shape = (count, 3, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("size", "fine", "coarse"), [(227, 25, 13), (127, 13, 7), (99, 9, 5), (64, 5, 3)])
def test_levels_follow_from_the_image_size(prefilter: Prefilter, size: int, fine: int, coarse: int) -> None:
    encoder = Encoder(prefilter, width=8)
    shapes = level_shapes(encoder, images(1, size))
    assert shapes == (LevelShape(128 + 16, fine, fine), LevelShape(32, coarse, coarse))
    assert encoder.training
    assert prefilter(images(1, size)).shape[1:] == (192, fine + 2, fine + 2)
    assert Readout(5, shapes)(encoder(images(2, size))).shape == (2, 5)


def test_prefilter_is_the_two_layers(prefilter: Prefilter) -> None:
    weights = gabor_prefilter_weights(0)
    x = images(2, 99).float() / 255 - torch.tensor([0.5, 0.45, 0.4]).view(1, 3, 1, 1)
    x = functional.conv2d(x, weights["features.0.weight"], weights["features.0.bias"], stride=4, padding=2)
    x = functional.max_pool2d(x.relu(), 3, 2)
    x = functional.conv2d(x, weights["features.3.weight"], weights["features.3.bias"], padding=2).relu()
    torch.testing.assert_close(prefilter(images(2, 99)), x)
    assert not any(parameter.requires_grad for parameter in prefilter.parameters())


def test_maps_that_went_through_the_prefilter_pass(prefilter: Prefilter) -> None:
    encoder = Encoder(prefilter, width=4).eval()
    maps = prefilter(images(2, 99))
    assert prefilter(maps) is maps
    for direct, kept in zip(encoder(images(2, 99)), encoder(maps), strict=True):
        torch.testing.assert_close(direct, kept, rtol=0, atol=0)


def test_trunk_counts_the_published_parameters() -> None:
    """1,034,944 trained parameters at the published width."""
    assert sum(parameter.numel() for parameter in Trunk(64).parameters()) == 1_034_944


def test_readout_sees_the_first_half_of_each_layer() -> None:
    """Features of c4a beyond the first t reach the readout only through c4b."""
    trunk = Trunk(3).eval()
    maps = torch.rand(1, 192, 9, 9)
    seen: dict[str, torch.Tensor] = {}
    for name, block in trunk.named_children():
        block.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    fine, coarse = trunk(maps)
    assert [tuple(seen[n].shape[1:]) for n in ("c3", "c4a", "c6a", "c6b")] == [
        (128, 7, 7),
        (6, 7, 7),
        (6, 4, 4),
        (3, 4, 4),
    ]
    torch.testing.assert_close(fine, torch.cat([seen["c3"], seen["c4a"][:, :3], seen["c4b"][:, :3]], 1))
    parts = [seen["c5a"][:, :3], seen["c5b"][:, :3], seen["c6a"][:, :3], seen["c6b"]]
    torch.testing.assert_close(coarse, torch.cat(parts, 1))


def test_a_block_is_norm_dropout_convolution_relu() -> None:
    trunk = Trunk(2, generator=torch.Generator().manual_seed(0)).train()
    block, x = trunk.get_submodule("c4a"), torch.rand(6, 128, 5, 5)
    norm = nn.BatchNorm2d(128, momentum=0.25)
    with torch.no_grad():
        found = block(x, block.dropout.draw(x, torch.Generator().manual_seed(3)))
        keep = torch.empty(6, 128).bernoulli_(0.5, generator=torch.Generator().manual_seed(3)) * 2
        expected = functional.conv2d(norm(x) * keep[:, :, None, None], block.conv.weight, block.conv.bias, padding=1)
    torch.testing.assert_close(found, expected.relu())
    torch.testing.assert_close(block.norm.running_var, norm.running_var)


def test_initial_values() -> None:
    trunk = Trunk(64, generator=torch.Generator().manual_seed(0))
    for name, inputs, outputs in (("c3", 192, 128), ("c5b", 128, 128), ("c6b", 128, 64)):
        conv = trunk.get_submodule(f"{name}.conv")
        assert conv.weight.std().item() == pytest.approx(
            math.sqrt(2) * math.sqrt(2 / (9 * (inputs + outputs))), rel=0.02
        )
        assert not conv.bias.any()
    readout = Readout(400, [LevelShape(10, 4, 4), LevelShape(6, 2, 2)], generator=torch.Generator().manual_seed(0))
    assert readout.weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert readout.bias.std().item() == pytest.approx(0.01, rel=0.1)
    for field, pixels in zip(readout.fields(), (16, 4), strict=True):
        torch.testing.assert_close(field, torch.full((400, pixels), 1 / pixels))


def test_global_generator_is_left_alone(prefilter: Prefilter) -> None:
    before = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder(prefilter, width=4, generator=generator)
    Readout(3, level_shapes(encoder, images(1, 64)), generator=generator)(encoder(images(2, 64), generator))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dropout_follows_its_generator(prefilter: Prefilter) -> None:
    encoder = Encoder(prefilter, width=4, generator=torch.Generator().manual_seed(0))
    encoder.trunk.eval()
    for block in encoder.trunk.children():
        block.dropout.train()  # with running statistics in the norm
    a, b, c = (encoder(images(2, 64), torch.Generator().manual_seed(seed))[1] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_readout_is_its_definition() -> None:
    levels = [torch.randn(3, 5, 4, 4), torch.randn(3, 2, 2, 2)]
    readout = Readout(7, [LevelShape(*level.shape[1:]) for level in levels])
    with torch.no_grad():
        for logits in readout.pooling_logits:
            logits.normal_()
    maps = [torch.log1p(level.abs()) * level.tanh() for level in levels]
    expected = definitions.pooled_prediction(
        [m.flatten(2) for m in maps], readout.fields(), readout.weights, readout.bias
    )
    torch.testing.assert_close(readout(levels), expected)


def test_layers_partition_the_features() -> None:
    layers = layer_slices(64)
    assert [(name, s.start, s.stop) for name, s in layers.items()] == [
        ("c3", 0, 128), ("c4a", 128, 192), ("c4b", 192, 256), ("c5a", 256, 320), ("c5b", 320, 384), ("c6a", 384, 448),
        ("c6b", 448, 512),
    ]  # fmt: skip
    assert bipartite_slices(64) == {"fine": slice(0, 256), "coarse": slice(256, 512)}
    assert layer_slices(5)["c6b"].stop == sum(Trunk(5).level_features)


def test_any_network_can_serve_as_a_frozen_encoder() -> None:
    layer = nn.Conv2d(3, 4, 3)
    encoder = FrozenEncoder(
        lambda x: [layer(x.float()), layer(x.float()).relu(), x.float().mean((2, 3), keepdim=True)],
        channels=[torch.tensor([0, 5]), torch.tensor([2, 1, 0])],
    )
    fine, coarse = encoder.train()(images(2, 16))
    assert not encoder.training
    torch.testing.assert_close(fine[:, 1], layer(images(2, 16).float()).relu()[:, 1])
    assert fine.shape == (2, 2, 14, 14)
    assert coarse.shape == (2, 3, 1, 1)
    shapes = level_shapes(encoder, images(1, 16))
    assert Readout(6, shapes)([fine, coarse]).shape == (2, 6)
