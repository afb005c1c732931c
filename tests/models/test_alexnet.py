"""AlexNet and the levels that any network's maps are merged into."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nsdflow.models.networks.alexnet import ALEXNET_LAYERS, AlexNet, imagenet_normalised
from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from nsdflow.models.networks.levels import (
    channel_moments,
    extract_levels,
    fit_levels,
    group_layers,
    merge_layers,
    select_channels,
)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in ALEXNET_SHAPES.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.01
    return state


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (3, 3, 227, 227), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_takes_and_keeps_the_published_keys(weights: dict[str, Tensor]) -> None:
    network = AlexNet(weights)
    assert set(network.state_dict()) == set(weights)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_layers_are_those_of_a_plain_sequence(weights: dict[str, Tensor], images: Tensor) -> None:
    layers = AlexNet(weights)(images)
    assert len(layers) == len(ALEXNET_LAYERS)
    plain = plain_alexnet(weights)
    maps = imagenet_normalised(images)
    expected = []
    for index, module in enumerate(plain):
        maps = module(maps)
        if index in (2, 4, 7, 9, 11, 15, 17, 18):
            expected.append(maps if maps.ndim == 4 else maps[:, :, None, None])
    for found, wanted in zip(layers, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def plain_alexnet(weights: dict[str, Tensor]) -> nn.Sequential:
    """The network module by module; layers taken after modules 2, 4, 7, 9, 11, 15, 17 and 18."""

    def convolution(key: str, **options: int) -> nn.Module:
        return Call(lambda maps: functional.conv2d(maps, weights[f"{key}.weight"], weights[f"{key}.bias"], **options))

    def linear(key: str) -> nn.Module:
        return Call(lambda vector: functional.linear(vector, weights[f"{key}.weight"], weights[f"{key}.bias"]))

    return nn.Sequential(
        convolution("features.0", stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        convolution("features.3", padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        convolution("features.6", padding=1), nn.ReLU(),
        convolution("features.8", padding=1), nn.ReLU(),
        convolution("features.10", padding=1), nn.ReLU(),
        nn.Sequential(nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(6)), nn.Flatten(),
        linear("classifier.1"), nn.ReLU(), linear("classifier.4"), nn.ReLU(), linear("classifier.6"),
    )  # fmt: skip


class Call(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, value: Tensor) -> Tensor:
        return self.function(value)  # type: ignore[operator]


def test_normalisation() -> None:
    images = torch.tensor([0, 128, 255], dtype=torch.uint8)[None, :, None, None]
    expected = (np.array([0, 128, 255]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(imagenet_normalised(images)[0, :, 0, 0], expected, rtol=1e-5)


def network(images: Tensor) -> list[Tensor]:
    """A minimal callable that returns maps."""
    values = images.float()
    pooled = functional.avg_pool2d(values, 4)
    return [pooled, torch.cat([values.mean((2, 3), keepdim=True)] * 2, dim=1), pooled.square(), pooled * 0 + 1]


def small_images(count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)


def test_levels_join_maps_of_equal_size_in_order() -> None:
    layers = network(torch.from_numpy(small_images(2)))
    assert group_layers(layers) == [[0, 2, 3], [1]]
    merged = merge_layers(layers)
    assert [tuple(level.shape) for level in merged] == [(2, 9, 2, 2), (2, 6, 1, 1)]
    assert torch.equal(merged[0][:, 3:6], layers[2])


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_extraction_does_not_depend_on_batches(batch: int) -> None:
    images = small_images(9)
    levels = fit_levels(network, images, limit=2, batch=batch)
    layers = network(torch.from_numpy(images))
    kept, origin = select_channels(channel_moments(layers), group_layers(layers), 2)
    np.testing.assert_array_equal(levels.layer_of_feature, [0, 0, 2, 2, 3, 3, 1, 1])
    np.testing.assert_array_equal(origin, levels.layer_of_feature)
    assert (levels.images, levels.features) == (9, 8)
    for level, merged, index in zip(levels.maps, merge_layers(layers), kept, strict=True):
        torch.testing.assert_close(level, merged[:, index])


def test_the_most_variable_channels_stay() -> None:
    layers = network(torch.from_numpy(small_images(20)))
    kept, _ = select_channels(channel_moments(layers), group_layers(layers), 1)
    flat = layers[0].double()
    variance = flat.square().mean((0, 2, 3)) - flat.mean((0, 2, 3)) ** 2
    assert kept[0][0] == variance.argmax()
    assert kept[0][2] == 6  # channels of layer 3 do not vary: the first of equals stays


def test_moments_of_blocks_add_up() -> None:
    images = torch.from_numpy(small_images(10))
    whole = channel_moments(network(images)).variance()
    parts = (channel_moments(network(images[:3])) + channel_moments(network(images[3:]))).variance()
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)


def test_no_images() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        extract_levels(network, small_images(0))
