"""Channels are selected on some images, stored, and applied to any others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from nsdflow.models.networks.levels import ChannelSelection, extract_levels, fit_levels


def network(images: torch.Tensor) -> list[torch.Tensor]:
    """Three layers, the first and the last of equal size; channels are powers of the image."""
    values = images.float()
    powers = torch.cat([values**power for power in (1, 2, 3)], dim=1)
    return [powers, powers.mean((2, 3), keepdim=True), powers.flip(1)]


def pictures(scales: tuple[float, ...], seed: int) -> np.ndarray:
    """Images (image, 3, y, x) whose channels vary by ``scales``."""
    noise = np.random.default_rng(seed).random((12, 3, 4, 4)).astype(np.float32)
    return noise * np.array(scales, np.float32)[:, None, None]


def test_other_images_keep_the_channels_of_the_training_images() -> None:
    train, test = pictures((1, 2, 3), 0), pictures((3, 2, 1), 1)
    levels = fit_levels(network, train, limit=2, batch=5)
    own = fit_levels(network, test, limit=2)
    assert not own.channels.same_as(levels.channels), "the test images would choose others"
    kept = pickle.loads(pickle.dumps(levels.channels))
    given = extract_levels(network, test, channels=kept, batch=5)
    layers = network(torch.from_numpy(test))
    features = [layers[layer][:, channel] for layer, channel in zip(kept.layer, kept.channel, strict=True)]
    assert kept.layer.tolist() == [0, 0, 2, 2, 1, 1]
    expected = [torch.stack(features[:4], 1), torch.stack(features[4:], 1)]
    for found, wanted in zip(given.maps, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert given.channels.same_as(levels.channels)


def test_the_training_images_themselves_give_the_same_maps() -> None:
    images = pictures((1, 2, 3), 2)
    levels = fit_levels(network, images, limit=4)
    for found, wanted in zip(extract_levels(network, images, channels=levels.channels).maps, levels.maps, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_without_a_choice_every_channel_stays() -> None:
    everything = extract_levels(network, pictures((1, 1, 1), 3))
    assert everything.features == 27
    assert everything.channels.channel.tolist() == [*range(9), *range(9), *range(9)]


@pytest.mark.parametrize(("layer", "channel"), [(3, 0), (1, 9)])
def test_channels_of_another_network_are_refused(layer: int, channel: int) -> None:
    chosen = ChannelSelection(np.array([layer]), np.array([channel]))
    with pytest.raises(ValueError, match="from another network than this one with layers of"):
        extract_levels(network, pictures((1, 1, 1), 4), channels=chosen)
