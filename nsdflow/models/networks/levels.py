"""Feature maps of any network, as the levels a receptive field pools over.

A :class:`FeatureNetwork` is any callable that turns a batch of images into a list of maps (image, channel, y, x), one
per layer: :class:`~nsdflow.models.networks.alexnet.AlexNet`, :class:`~nsdflow.models.networks.gabor.GaborPyramid`,
or a custom network, in two lines::

    backbone = create_feature_extractor(resnet18(weights=...), ["layer1", "layer2", "layer3"])   # torchvision
    network = lambda images: list(backbone(imagenet_normalised(images)).values())

A *level* joins the layers whose maps have the same size, along the channels. :func:`fit_levels` drops the channels of
each layer that vary least over training images, and :func:`extract_levels` applies that choice to any images::

    training = fit_levels(network, training_images, limit=512)
    test = extract_levels(network, test_images, channels=training.channels)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "ChannelMoments",
    "ChannelSelection",
    "FeatureNetwork",
    "Levels",
    "channel_moments",
    "extract_levels",
    "fit_levels",
    "group_layers",
    "image_moments",
    "merge_layers",
    "select_channels",
    "sum_moments",
]


class FeatureNetwork(Protocol):
    """Anything that maps images (image, 3, y, x), uint8 or floats of 0 to 255, to one map tensor per layer."""

    def __call__(self, images: Tensor, /) -> list[Tensor]: ...


@dataclass(frozen=True, eq=False)
class ChannelSelection:
    """Channels that are the features of a model: chosen once, kept, and applied to any images.

    Parameters
    ----------
    layer : numpy.ndarray
        (feature,) int64, number of the layer. Features are sorted by level, then by layer.
    channel : numpy.ndarray
        (feature,) int64, number of the channel in its layer, ascending within a layer.

    Examples
    --------
    >>> images = torch.zeros(2, 3, 8, 8)
    >>> channels = ChannelSelection(np.array([0, 0]), np.array([0, 2]))
    >>> channels.of([images])[0].shape
    torch.Size([2, 2, 8, 8])
    """

    layer: NDArray[np.int64]
    channel: NDArray[np.int64]

    def of(self, layers: list[Tensor]) -> list[Tensor]:
        """Levels (image, channel, y, x) of the selected channels, from the maps of all layers.

        Raises
        ------
        ValueError
            The network has fewer layers, or a layer has fewer channels, than were chosen from.
        """
        sizes = [maps.shape[1] for maps in layers]
        if any(number >= len(sizes) or channel >= sizes[number] for number, channel in self._last().items()):
            raise ValueError(f"channels were chosen from another network than this one with layers of {sizes} channels")
        return merge_layers([self._only(number, maps) for number, maps in enumerate(layers)])

    def same_as(self, other: ChannelSelection) -> bool:
        """Whether both select the same channels in the same order."""
        return np.array_equal(self.layer, other.layer) and np.array_equal(self.channel, other.channel)

    def _last(self) -> dict[int, int]:
        """Largest number of a selected channel, by layer."""
        return {int(number): int(self.channel[self.layer == number].max()) for number in np.unique(self.layer)}

    def _only(self, number: int, maps: Tensor) -> Tensor:
        index = self.channel[self.layer == number]
        return maps if len(index) == maps.shape[1] else maps[:, torch.from_numpy(index).to(maps.device)]


@dataclass(frozen=True)
class Levels:
    """Feature maps of a set of images.

    Parameters
    ----------
    maps : tuple of torch.Tensor or numpy.ndarray
        One array (image, channel, y, x) per level, in memory or memory-mapped.
    channels : ChannelSelection
        Layer and channel of origin of every feature.
    """

    maps: tuple[Tensor | NDArray[Any], ...]
    channels: ChannelSelection

    @property
    def layer_of_feature(self) -> NDArray[np.int64]:
        """(feature,) number of the layer of every feature."""
        return self.channels.layer

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

    Moments of separate blocks of images add up. Several workers can therefore share one pass over the images.
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


def merge_layers(layers: list[Tensor]) -> list[Tensor]:
    """Concatenate maps of equal size along their channels."""
    return [torch.cat([layers[index] for index in group], dim=1) for group in group_layers(layers)]


def select_channels(
    moments: ChannelMoments, groups: list[list[int]], limit: int | None
) -> tuple[list[Tensor], NDArray[np.int64]]:
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


def fit_levels(
    network: FeatureNetwork,
    images: Tensor | NDArray[Any],
    *,
    limit: int = 512,
    batch: int = 50,
    device: torch.device | str = "cpu",
    keep_on: torch.device | str = "cpu",
) -> Levels:
    """Maps of training images, of the ``limit`` channels of each layer that vary most over the images.

    Parameters
    ----------
    network : FeatureNetwork
        Computes the maps. The caller moves it to ``device``.
    images : torch.Tensor or numpy.ndarray
        (image, 3, y, x) uint8, in memory or memory-mapped. It is read by batches.
    limit : int
        Largest number of channels per layer.
    batch : int
        Images per call of the network.
    device, keep_on : torch.device or str
        Devices that receive the batches, and hold the maps.

    Returns
    -------
    Levels
        Maps of the chosen channels. Give its ``channels`` to :func:`extract_levels` for every other set of images. The
        call holds every channel of every image in memory, and needs no second pass over the images.

    Raises
    ------
    ValueError
        There is no image.

    Examples
    --------
    >>> network = torch.nn.Conv2d(3, 8, 3)
    >>> training = fit_levels(lambda images: [network(images)], torch.rand(6, 3, 8, 8), limit=2)
    >>> test = extract_levels(lambda images: [network(images)], torch.rand(4, 3, 8, 8), channels=training.channels)
    >>> training.features, test.features
    (2, 2)
    """
    totals: list[ChannelMoments] = []
    groups: list[list[int]] = []

    def counted(some: Tensor) -> list[Tensor]:
        layers = network(some)
        totals.append(channel_moments(layers, limit))
        groups[:] = group_layers(layers)
        return layers

    whole = extract_levels(counted, images, batch=batch, device=device, keep_on=keep_on)
    kept, _ = select_channels(reduce(add, totals), groups, limit)
    firsts = np.cumsum([0, *(level.shape[1] for level in whole.maps)])
    features = np.concatenate([index.numpy() + first for index, first in zip(kept, firsts[:-1], strict=True)])
    channels = ChannelSelection(whole.channels.layer[features], whole.channels.channel[features])
    pairs = zip(whole.maps, kept, strict=True)
    return Levels(tuple(level if len(index) == level.shape[1] else level[:, index] for level, index in pairs), channels)


def extract_levels(
    network: FeatureNetwork,
    images: Tensor | NDArray[Any],
    *,
    channels: ChannelSelection | None = None,
    batch: int = 50,
    device: torch.device | str = "cpu",
    keep_on: torch.device | str = "cpu",
) -> Levels:
    """Maps of all images in one pass, merged by size: of all channels, or of those that were chosen.

    Parameters
    ----------
    network : FeatureNetwork
        Computes the maps. The caller moves it to ``device``.
    images : torch.Tensor or numpy.ndarray
        (image, 3, y, x) uint8, in memory or memory-mapped. It is read by batches.
    channels : ChannelSelection, optional
        The channels to keep, as chosen by :func:`fit_levels` on training images. Default: all.
    batch : int
        Images per call of the network. Small batches are enough on the CPU: AlexNet's fully connected layers take as
        long for 25 images as for 50, whose largest activation is 40 MB. A GPU needs hundreds of images per batch.
    device : torch.device or str
        Device that receives the batches.
    keep_on : torch.device or str
        Device that holds the maps of all images.

    Returns
    -------
    Levels
        Maps in memory, float32, on ``keep_on``.

    Raises
    ------
    ValueError
        There is no image.

    Examples
    --------
    >>> extract_levels(lambda images: [images], torch.zeros(2, 3, 8, 8)).features
    3
    """
    if len(images) == 0:
        raise ValueError("no images; feature maps need at least one image")
    levels: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            layers = network(torch.as_tensor(images[start : start + batch]).to(device))
            if channels is None:
                channels = _every_channel(layers)
            parts = channels.of(layers)
            if not levels:
                levels = [torch.empty(len(images), *part.shape[1:], device=keep_on) for part in parts]
            for level, part in zip(levels, parts, strict=True):
                level[start : start + batch] = part
    assert channels is not None
    return Levels(tuple(levels), channels)


def _every_channel(layers: list[Tensor]) -> ChannelSelection:
    order = [(number, layers[number].shape[1]) for group in group_layers(layers) for number in group]
    return ChannelSelection(
        np.concatenate([np.full(count, number) for number, count in order]),
        np.concatenate([np.arange(count) for _, count in order]),
    )
