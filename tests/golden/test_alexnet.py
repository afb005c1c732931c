"""AlexNet's published feature levels and their selected channels, with seeded weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from nsdflow.models.networks.alexnet import AlexNet
from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from nsdflow.models.networks.levels import channel_moments, fit_levels, group_layers, merge_layers, select_channels

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def published(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("alexnet_features")


@pytest.fixture(scope="module")
def images(published: Arrays, golden_images: Callable[[Arrays], np.ndarray]) -> torch.Tensor:
    """All images, of which the layers are given for the first ones only."""
    return torch.from_numpy(golden_images({**published, "n_used": published["n_images"]}))


@pytest.fixture(scope="module")
def network(published: Arrays) -> AlexNet:
    generator = np.random.default_rng(int(published["weight_seed"]))
    state = {}
    for name, shape in ALEXNET_SHAPES.items():
        weight = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        state[f"{name}.weight"] = torch.from_numpy(weight).float()
        state[f"{name}.bias"] = torch.from_numpy(generator.standard_normal(shape[0]) * 0.01).float()
    return AlexNet(state)


def test_layers(published: Arrays, images: torch.Tensor, network: AlexNet) -> None:
    layers = network(images[: int(published["n_used"])])
    for index, maps in enumerate(layers):
        assert maps.shape == tuple(published[f"layer_{index}_shape"])
        height, width = maps.shape[2:]
        for found, name in ((maps.mean((2, 3)), "mean"), (maps[:, :, height // 2, width // 3], "pix")):
            expected = published[f"layer_{index}_{name}"]
            found = found[:, : expected.shape[1]]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.std())


def test_channels_kept_in_one_pass(published: Arrays, images: torch.Tensor, network: AlexNet) -> None:
    count, batch = int(published["select_images"]), int(published["select_batch"])
    levels = fit_levels(network, images[:count], limit=int(published["select_max"]), batch=batch)
    np.testing.assert_array_equal(levels.layer_of_feature, published["layer_of_feature"])
    layers = network(images[:count])
    kept, _ = select_channels(channel_moments(layers), group_layers(layers), int(published["select_max"]))
    for index, (level, merged) in enumerate(zip(levels.maps, merge_layers(layers), strict=True)):
        np.testing.assert_array_equal(kept[index], published[f"kept_{index}"])
        assert group_layers(layers)[index] == list(published[f"kept_layers_{index}"])
        assert level.shape[1:] == tuple(published[f"kept_shape_{index}"])[1:]
        expected = merged[:, published[f"kept_{index}"]]
        np.testing.assert_allclose(level, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
