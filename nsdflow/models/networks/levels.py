"""Feature maps of any network, as the levels a receptive field pools over.

A :class:`FeatureNetwork` is any callable that turns a batch of images into a list of maps (image, channel, y, x), one
per layer: :class:`~nsdflow.models.networks.alexnet.AlexNet`, :class:`~nsdflow.models.networks.gabor.GaborPyramid`,
or a custom network, in two lines::

    backbone = create_feature_extractor(resnet18(weights=...), ["layer1", "layer2", "layer3"])   # torchvision
    network = lambda images: list(backbone(imagenet_normalised(images)).values())

A *level* joins the layers whose maps have the same size, along the channels. :func:`select_channels` drops the
channels of each layer that vary least over images. Every channel keeps its layer of origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ChannelMoments",
    "FeatureNetwork",
    "Levels",
    "channel_moments",
    "extract_levels",
    "group_layers",
    "image_moments",
    "merge_layers",
    "select_channels",
    "sum_moments",
]


class FeatureNetwork(Protocol):
    """Anything that maps images (image, 3, y, x), uint8 or floats of 0 to 255, to one map tensor per layer."""

    def __call__(self, images: Tensor, /) -> list[Tensor]: ...


@dataclass(frozen=True)
class Levels:
    """Feature maps of a set of images.

    ``maps`` holds one array (image, channel, y, x) per level, in memory or memory-mapped. ``layer_of_feature`` holds
    the layer of origin of every channel, with the levels in order.
    """

    maps: tuple[Tensor | np.ndarray[Any, Any], ...]
    layer_of_feature: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.maps[0].shape[0])

    @property
    def features(self) -> int:
        """Number of channels of all levels."""
        return sum(int(level.shape[1]) for level in self.maps)


@dataclass(frozen=True)
class ChannelMoments:
    """Sums over images of each channel's spatial mean and spatial mean square, one float64 tensor per layer.

    Moments of separate blocks of images add up, so that workers can compute them in one pass.
    """

    images: int
    mean: tuple[Tensor, ...]
    square: tuple[Tensor, ...]

    def __add__(self, other: ChannelMoments) -> ChannelMoments:
        return ChannelMoments(
            self.images + other.images,
            tuple(a + b for a, b in zip(self.mean, other.mean, strict=True)),
            tuple(a + b for a, b in zip(self.square, other.square, strict=True)),
        )

    def variance(self) -> tuple[Tensor, ...]:
        """Mean over images of the mean square, minus the square of the mean over images of the mean."""
        pairs = zip(self.mean, self.square, strict=True)
        return tuple(square / self.images - (mean / self.images) ** 2 for mean, square in pairs)


def channel_moments(layers: list[Tensor], limit: int | None = 0) -> ChannelMoments:
    """Moments of one batch of maps (image, channel, y, x).

    Layers of at most ``limit`` channels (all layers if None) get zeros: they keep all channels, whatever the variance.
    """
    return sum_moments(*image_moments(layers, limit))


def image_moments(layers: list[Tensor], limit: int | None = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Spatial mean and mean square (image, channel) of each layer; ``limit`` as in :func:`channel_moments`."""
    whole = [limit is None or maps.shape[1] <= limit for maps in layers]
    parts = [torch.zeros_like(maps[:, :, :1, :1]) if kept else maps for maps, kept in zip(layers, whole, strict=True)]
    return [maps.mean((2, 3)) for maps in parts], [maps.square().mean((2, 3)) for maps in parts]


def sum_moments(mean: list[Tensor], square: list[Tensor]) -> ChannelMoments:
    """Moments of a set of images, from the moments of each image as :func:`image_moments` returns them."""
    sums = (tuple(layer.double().sum(0).cpu() for layer in layers) for layers in (mean, square))
    return ChannelMoments(len(mean[0]), *sums)


def group_layers(layers: list[Tensor]) -> list[list[int]]:
    """Indices of the layers that make each level: equal map sizes together, in order of first appearance."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, maps in enumerate(layers):
        groups.setdefault(tuple(maps.shape[2:]), []).append(index)
    return list(groups.values())


def merge_layers(layers: list[Tensor], into: list[Tensor] | None = None) -> list[Tensor]:
    """Concatenate maps of equal size along their channels, into the tensors given or new ones."""
    groups = [[layers[index] for index in group] for group in group_layers(layers)]
    if into is None:
        return [torch.cat(group, dim=1) for group in groups]
    for level, group in zip(into, groups, strict=True):
        for part, maps in zip(level.split([maps.shape[1] for maps in group], dim=1), group, strict=True):
            part.copy_(maps)
    return into


def select_channels(
    moments: ChannelMoments, groups: list[list[int]], limit: int | None
) -> tuple[list[Tensor], np.ndarray[Any, np.dtype[np.int64]]]:
    """Keep the ``limit`` most variable channels of every layer that has more.

    Returns
    -------
    kept : list of Tensor
        Per level, the channels to keep as ascending indices into the merged level.
    origin : ndarray
        Layer of origin of every kept channel, levels joined.
    """
    variances = moments.variance()
    kept, origin = [], []
    for group in groups:
        offset, indices = 0, []
        for layer in group:
            variance = variances[layer]
            best = torch.argsort(variance, descending=True, stable=True)[:limit].sort().values
            indices.append(best + offset)
            origin.append(np.full(len(best), layer))
            offset += len(variance)
        kept.append(torch.cat(indices))
    return kept, np.concatenate(origin)


def extract_levels(
    network: FeatureNetwork,
    images: Tensor | np.ndarray[Any, Any],
    *,
    limit: int | None = 512,
    batch: int = 50,
    device: torch.device | str = "cpu",
    keep_on: torch.device | str = "cpu",
) -> Levels:
    """Maps of all images in one pass, merged by size, with at most ``limit`` channels per layer.

    Parameters
    ----------
    network : FeatureNetwork
        Computes the maps. The caller moves it to ``device``.
    images : Tensor or ndarray
        (image, 3, y, x) uint8, in memory or memory-mapped. It is read by batches.
    limit : int or None
        Largest number of channels per layer: those with the largest variance over ``images`` are kept. None keeps all.
    batch : int
        Images per call of the network. Small batches are enough on the CPU: AlexNet's fully connected layers take as
        long for 25 images as for 50, whose largest activation is 40 MB. A GPU needs hundreds of images per batch.
    device : device
        Device that receives the batches.
    keep_on : device
        Device that holds the maps of all images.

    Returns
    -------
    Levels
        Maps in memory, float32, on ``keep_on``. The call holds every channel of every image, so that the selection
        needs no second pass.
    """
    if len(images) == 0:
        raise ValueError("extract_levels needs at least one image")
    levels: list[Tensor] = []
    totals: list[ChannelMoments] = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            layers = network(torch.as_tensor(images[start : start + batch]).to(device))
            totals.append(channel_moments(layers, limit))
            if not levels:
                groups = group_layers(layers)
                levels = [_room(len(images), [layers[index] for index in group], keep_on) for group in groups]
            merge_layers(layers, [level[start : start + batch] for level in levels])
    moments = reduce(add, totals)
    kept, origin = select_channels(moments, groups, limit)
    chosen = (
        level if len(index) == level.shape[1] else level[:, index] for level, index in zip(levels, kept, strict=True)
    )
    return Levels(tuple(chosen), origin)


def _room(images: int, layers: list[Tensor], device: torch.device | str) -> Tensor:
    """Allocate the merged maps of all images."""
    return torch.empty(images, sum(maps.shape[1] for maps in layers), *layers[0].shape[2:], device=device)
