"""AlexNet's eight feature levels, as the published fwRF model uses them.

Weights have torchvision's key names (``features.0.weight`` ... ``classifier.6.bias``), so its file loads unchanged::

    network = AlexNet(load_alexnet_weights(cache="~/.cache/nsdflow"))
    levels = extract_levels(network, images)         # 256 x 27 x 27, 896 x 13 x 13, 1536 x 1 x 1 for 227 pixels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsdflow.models.networks.alexnet_weights import (
    ALEXNET_SHAPES,
    ALEXNET_URL,
    load_alexnet_weights,
    random_alexnet_weights,
)
from nsdflow.models.networks.network import Network, Preprocessing

__all__ = ["ALEXNET_LAYERS", "AlexNet", "alexnet_of", "imagenet_normalised", "open_alexnet"]

#: Names of the maps that :class:`AlexNet` returns, in order.
ALEXNET_LAYERS: Final = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def imagenet_normalised(images: Tensor) -> Tensor:
    """``(image / 255 - mean) / std`` with ImageNet's constants; (image, 3, y, x) in, float32 out."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (Preprocessing.mean, Preprocessing.std))
    scale, shift = 1 / (255 * std), -mean / std
    pixels = images.to(torch.float32, copy=True)
    return pixels.mul_(scale.to(images.device)).add_(shift.to(images.device))


class AlexNet(nn.Module):
    """Frozen AlexNet that returns its eight feature levels.

    The levels are conv1 after its pooling, conv2 before its pooling, conv3, conv4, conv5, and fc6, fc7 and fc8 as 1 x 1
    maps. All are taken after the ReLU, except fc8, which has none. fc6 receives conv5 max-pooled (3, stride 2) and
    averaged to 6 x 6.

    Parameters
    ----------
    weights : mapping of str to Tensor
        State dict in torchvision's key names, see
        :func:`nsdflow.models.networks.alexnet_weights.load_alexnet_weights`. The weights of the fully connected
        layers are not copied.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        with torch.device("meta"):  # shapes alone: random initial weights would be replaced at once
            self.features = nn.ModuleDict(
                {
                    "0": _convolution("features.0", stride=4, padding=2),
                    "3": _convolution("features.3", padding=2),
                    "6": _convolution("features.6", padding=1),
                    "8": _convolution("features.8", padding=1),
                    "10": _convolution("features.10", padding=1),
                }
            )
            self.classifier = nn.ModuleDict({key: _linear(f"classifier.{key}") for key in ("1", "4", "6")})
        self.load_state_dict({name: values.float() for name, values in weights.items()}, assign=True)
        # on the CPU, convolutions in channels-last memory take two thirds of the time
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Eight maps (image, channel, y, x) of images (image, 3, y, x), uint8 or floats of 0 to 255."""
        maps = imagenet_normalised(images).contiguous(memory_format=torch.channels_last)
        layers = []
        for key in ("0", "3", "6", "8", "10"):
            maps = functional.relu(self.features[key](maps), inplace=True)
            if key == "0":
                maps = functional.max_pool2d(maps, 3, 2)
            layers.append(maps)
            if key in ("3", "10"):
                maps = functional.max_pool2d(maps, 3, 2)
        vector = functional.adaptive_avg_pool2d(maps, 6).flatten(1)
        for key in ("1", "4", "6"):
            vector = self.classifier[key](vector)
            vector = vector if key == "6" else functional.relu(vector, inplace=True)
            layers.append(vector[:, :, None, None])
        return layers


def open_alexnet(
    name: str, weights: str | None, seed: int, layers: Sequence[str] | None, cache: str | Path | None = None
) -> Network:
    """AlexNet with published, local or random weights."""
    random = weights == "random"
    state = random_alexnet_weights(seed) if random else load_alexnet_weights(weights, cache=cache)
    return alexnet_of(state, weights or ALEXNET_URL).only(layers)


def alexnet_of(state: Mapping[str, Tensor], source: str) -> Network:
    """AlexNet with the weights of a state dict in torchvision's key names."""
    return Network(
        "alexnet", AlexNet(state), ALEXNET_LAYERS, nn.Module.__call__, weights=source, version="torchvision 1 (owt)"
    )


def _convolution(name: str, *, stride: int = 1, padding: int) -> nn.Conv2d:
    outputs, inputs, kernel, _ = ALEXNET_SHAPES[name]
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding)


def _linear(name: str) -> nn.Linear:
    outputs, inputs = ALEXNET_SHAPES[name]
    return nn.Linear(inputs, outputs)
