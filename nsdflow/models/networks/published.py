"""The two networks of the published fwRF models, as records of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from nsdflow.models.networks.alexnet import ALEXNET_LAYERS, AlexNet
from nsdflow.models.networks.gabor import PUBLISHED_FREQUENCIES, GaborPyramid
from nsdflow.models.networks.network import Network, seeded
from nsdflow.models.networks.weights import ALEXNET_SHAPES, ALEXNET_URL, load_alexnet_weights

__all__ = ["alexnet_of", "open_alexnet", "open_gabor", "open_gabor_low", "random_alexnet_weights"]

#: Number of the lowest published spatial frequencies that images of about 64 pixels resolve: up to 23 cycles.
LOW_FREQUENCIES: Final = 8


def open_alexnet(
    name: str, weights: str | None, seed: int, layers: Sequence[str] | None, cache: str | Path | None = None
) -> Network:
    """AlexNet with published, local or random weights."""
    random = weights == "random"
    state = random_alexnet_weights(seed) if random else load_alexnet_weights(weights, cache=cache)
    return alexnet_of(state, weights or ALEXNET_URL).only(layers)


def alexnet_of(state: Mapping[str, Tensor], source: str) -> Network:
    """AlexNet with the weights of a state dict in torchvision's key names."""
    return Network("alexnet", AlexNet(state), ALEXNET_LAYERS, _call, weights=source, version="torchvision 1 (owt)")


def open_gabor(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """The Gabor pyramid, a layer per spatial frequency."""
    return _pyramid(name, PUBLISHED_FREQUENCIES).only(layers)


def open_gabor_low(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """The lower frequencies of the Gabor pyramid, for small images, in a twentieth of the time."""
    return _pyramid(name, PUBLISHED_FREQUENCIES[:LOW_FREQUENCIES]).only(layers)


def random_alexnet_weights(seed: int) -> dict[str, Tensor]:
    """Weights drawn from He's normal distribution, for tests and the demo."""
    state = {}
    with seeded(seed):
        for name, shape in ALEXNET_SHAPES.items():
            inputs = torch.Size(shape[1:]).numel()
            state[f"{name}.weight"] = torch.randn(shape) * (2 / inputs) ** 0.5
            state[f"{name}.bias"] = torch.zeros(shape[0])
    return state


def _pyramid(name: str, frequencies: Sequence[float]) -> Network:
    names = [f"{frequency:.3g} cycles/image" for frequency in frequencies]
    return Network(name, GaborPyramid(frequencies), names, _call, version="published")


def _call(module: nn.Module, images: Tensor) -> list[Tensor]:
    maps: list[Tensor] = module(images)
    return maps
