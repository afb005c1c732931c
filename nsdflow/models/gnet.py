"""GNet: a trunk of convolutions trained on brains, on AlexNet's first two layers, with flexible pooling readouts.

One :class:`Encoder` (prefilter and trunk) serves all subjects and returns feature maps at two resolutions; one
:class:`Readout` per subject turns them into predictions of that subject's voxels::

    encoder = Encoder(gabor_prefilter(seed=0), width=64)
    readout = Readout(voxels=3690, levels=level_shapes(encoder, images))
    predictions = readout(encoder(images))          # (image, voxel)

The published network has quirks that are kept: ``c3`` convolves without padding, so the upper level is 25 x 25 from
27 x 27; the readout sees only the first ``t`` of the ``2 t`` channels of c4a, c4b, c5a, c5b and c6a; the second level's
features are ordered c5a, c5b, c6a, c6b.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsdflow.models.flexible_pooling import compress, contributions, pooled_prediction
from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from nsdflow.models.networks.levels import FeatureNetwork, merge_layers
from nsdflow.names import LAYER_NAMES

__all__ = [
    "Encoder",
    "FrozenEncoder",
    "LevelShape",
    "Prefilter",
    "Readout",
    "Trunk",
    "bipartite_slices",
    "layer_slices",
    "level_shapes",
    "prefilter_shape",
]

#: Channels of c3, for any width.
C3_CHANNELS: Final = 128
NORM_MOMENTUM: Final = 0.25

#: Layers before and after the pooling, which form the two levels of the readout.
FINE_LAYERS: Final = LAYER_NAMES[:3]
COARSE_LAYERS: Final = LAYER_NAMES[3:]


class LevelShape(NamedTuple):
    """Shape of one level of feature maps."""

    features: int
    y: int
    x: int


class Prefilter(nn.Module):
    """AlexNet's first two layers: conv 11 x 11 / 4, ReLU, max pool 3 / 2, conv 5 x 5, ReLU. Frozen by default.

    It takes images (image, 3, y, x) as uint8, or as floats on the same scale of 0 to 255, and returns maps
    (image, 192, y', x'): 27 x 27 for images of 227 pixels. The input of the first layer is image / 255 - ``mean``.
    Its own output (192 channels) passes through unchanged, so that it can be cached and used as input.
    """

    mean: Tensor

    def __init__(self, weights: dict[str, Tensor], mean: Tensor | Sequence[float] = (0.0, 0.0, 0.0)) -> None:
        """``weights``: ``features.0.weight`` ... ``features.3.bias``, in torchvision's names; ``mean`` by channel."""
        super().__init__()
        first, second = ALEXNET_SHAPES["features.0"], ALEXNET_SHAPES["features.3"]
        self.conv1 = _convolution(first[1], first[0], kernel=first[2], stride=4, padding=2)
        self.conv2 = _convolution(second[1], second[0], kernel=second[2], padding=2)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(1, 3, 1, 1))
        with torch.no_grad():
            for layer, name in ((self.conv1, "features.0"), (self.conv2, "features.3")):
                layer.weight.copy_(weights[f"{name}.weight"])
                cast(Tensor, layer.bias).copy_(weights[f"{name}.bias"])
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] == self.conv2.out_channels:
            return images.to(self.mean.dtype)
        x = images.to(self.mean.dtype) / 255.0 - self.mean
        x = functional.max_pool2d(functional.relu(self.conv1(x)), kernel_size=3, stride=2)
        return functional.relu(self.conv2(x))


class ChannelDropout(nn.Module):
    """Set whole channels of an image to zero with probability ``share``, and scale the others to keep the mean.

    Unlike torch's dropout, it draws from a given generator, and in a separate call: ``forward`` is a plain function of
    tensors, which can be compiled.
    """

    def __init__(self, share: float, channels: int) -> None:
        super().__init__()
        self.share = share
        self.channels = channels

    def draw(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """Factors (image, channel, 1, 1) for the images of ``like`` (image, ...); None if nothing is dropped."""
        return self._factors(len(like), like, generator) if self.training and self.share else None

    def forward(self, x: Tensor, factors: Tensor | None) -> Tensor:
        return x if factors is None else x * factors.to(x.dtype)

    def _factors(self, images: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
        kept = like.new_empty(images, self.channels).bernoulli_(1 - self.share, generator=generator)
        return kept.div_(1 - self.share)[:, :, None, None]


class ConvBlock(nn.Module):
    """Batch norm -> channel dropout -> 3 x 3 convolution -> ReLU."""

    def __init__(
        self, inputs: int, outputs: int, *, padding: int, dropout: float, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.dropout = ChannelDropout(dropout, inputs)
        self.norm = nn.BatchNorm2d(inputs, eps=1e-5, momentum=NORM_MOMENTUM)
        self.conv = _convolution(inputs, outputs, kernel=3, padding=padding)
        nn.init.xavier_normal_(self.conv.weight, gain=math.sqrt(2.0), generator=generator)
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, x: Tensor, factors: Tensor | None = None) -> Tensor:
        """``factors`` are those of the dropout, as `ChannelDropout.draw` returns them."""
        x = self.dropout(self.norm(x), factors)
        return functional.relu(self.conv(x), inplace=True)


class Trunk(nn.Module):
    """The trained convolutions, c3 to c6b, ``width`` t: prefilter maps -> two levels of feature maps."""

    def __init__(self, width: int = 64, *, dropout: float = 0.5, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.width = width
        both = 2 * width
        outputs = dict.fromkeys(LAYER_NAMES, both) | {"c3": C3_CHANNELS, "c6b": width}
        inputs = ALEXNET_SHAPES["features.3"][0]
        for name in LAYER_NAMES:
            padding = 0 if name == "c3" else 1
            block = ConvBlock(inputs, outputs[name], padding=padding, dropout=dropout, generator=generator)
            self.add_module(name, block)
            inputs = outputs[name]

    @property
    def level_features(self) -> tuple[int, int]:
        """Features of the two levels."""
        return C3_CHANNELS + 2 * self.width, 4 * self.width

    def forward(self, maps: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Maps (image, 192, y, x) -> (image, 128 + 2 t, y - 2, x - 2) and (image, 4 t, (y - 1) / 2, (x - 1) / 2).

        ``generator`` draws the dropout masks in train mode; torch's global generator does if None.
        """
        return self.convolve(maps, self.draw(maps, generator))

    def draw(self, maps: Tensor, generator: torch.Generator | None = None) -> list[Tensor | None]:
        """Dropout factors of every layer for the images of ``maps``."""
        return [self._block(name).dropout.draw(maps, generator) for name in LAYER_NAMES]

    def convolve(self, maps: Tensor, factors: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """Compute what `forward` computes, with factors from `draw`."""
        x = maps
        seen: dict[str, Tensor] = {}
        for name, drawn in zip(LAYER_NAMES, factors, strict=True):
            if name == COARSE_LAYERS[0]:
                x = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
            x = self._block(name)(x, drawn)
            seen[name] = x if name == "c3" else x[:, : self.width]
        fine, coarse = (torch.cat([seen[name] for name in names], dim=1) for names in (FINE_LAYERS, COARSE_LAYERS))
        return fine, coarse

    def _block(self, name: str) -> ConvBlock:
        return cast(ConvBlock, self.get_submodule(name))


class Encoder(nn.Module):
    """Prefilter and trunk: images (image, 3, y, x), uint8 -> two levels of feature maps (image, feature, y', x').

    Images need at least about 63 pixels per side; 227 pixels give levels of 25 x 25 and 13 x 13 pixels.
    """

    def __init__(
        self,
        prefilter: Prefilter,
        width: int = 64,
        *,
        dropout: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        """``generator`` draws the trunk's initial weights, and ``width`` is its t."""
        super().__init__()
        self.prefilter = prefilter
        self.trunk = Trunk(width, dropout=dropout, generator=generator)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Sequence[Tensor]:
        levels: Sequence[Tensor] = self.trunk(self.prefilter(images), generator)
        return levels


class FrozenEncoder(nn.Module):
    """Any network that returns a list of feature maps, as a frozen encoder for readouts.

    ``network`` takes uint8 images (image, 3, y, x) and returns maps (image, channel, y, x), one tensor per layer.
    Layers of equal size are joined to levels (:func:`nsdflow.models.networks.levels.merge_layers`). ``channels``, where
    given, selects the features of the levels, with one index tensor per level. With
    :class:`~nsdflow.models.networks.alexnet.AlexNet` this is AlexNet-fpf.
    """

    def __init__(self, network: FeatureNetwork, channels: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Do nothing: the encoder stays in evaluation mode."""
        super().train(False)
        return self

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Sequence[Tensor]:
        levels = merge_layers(self.network(images))
        if self.channels is None:
            return levels
        return [level[:, keep.to(level.device)] for level, keep in zip(levels, self.channels, strict=True)]


class Readout(nn.Module):
    """One subject's flexible pooling readout: levels of feature maps -> predictions (image, voxel).

    A voxel has one pooling field per level, which is the softmax of ``pooling_logits[level]`` (voxel, y, x) over the
    pixels of the level. It also has ``weights`` (feature) for the features of all levels in order, and a ``bias``.
    See :mod:`nsdflow.models.flexible_pooling` for the formula.
    """

    def __init__(self, voxels: int, levels: Iterable[LevelShape], *, generator: torch.Generator | None = None) -> None:
        """Logits start at one (uniform fields), weights and biases normal with standard deviation 0.01."""
        super().__init__()
        shapes = [LevelShape(*level) for level in levels]
        self.pooling_logits = nn.ParameterList(torch.ones(voxels, level.y, level.x) for level in shapes)
        self.weights = nn.Parameter(torch.empty(voxels, sum(level.features for level in shapes)))
        self.bias = nn.Parameter(torch.empty(voxels))
        nn.init.normal_(self.weights, std=0.01, generator=generator)
        nn.init.normal_(self.bias, std=0.01, generator=generator)

    def fields(self) -> tuple[Tensor, ...]:
        """Pooling fields, one tensor (voxel, pixel) per level; each row sums to one."""
        return tuple(torch.softmax(logits.flatten(1), dim=1) for logits in self.pooling_logits)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        return pooled_prediction(self._maps(levels), self.fields(), self.weights, self.bias)

    def contributions(self, levels: Sequence[Tensor], partitions: Sequence[slice]) -> Tensor:
        """Contribution of each slice of the features to the predictions: (image, voxel, partition)."""
        return contributions(self._maps(levels), self.fields(), self.weights, partitions)

    def _maps(self, levels: Sequence[Tensor]) -> list[Tensor]:
        return [compress(level.to(self.weights.dtype).flatten(2)) for level in levels]


def layer_slices(width: int = 64) -> dict[str, slice]:
    """Slice of each layer among the features of the readout: c3 0:128, c4a 128:192, ... for a width of 64."""
    edges = [0, C3_CHANNELS, *(C3_CHANNELS + width * (i + 1) for i in range(len(LAYER_NAMES) - 1))]
    return {name: slice(edges[i], edges[i + 1]) for i, name in enumerate(LAYER_NAMES)}


def bipartite_slices(width: int = 64) -> dict[str, slice]:
    """The two halves of the features: "fine" (c3 to c4b, the larger maps) and "coarse" (c5a to c6b)."""
    layers = layer_slices(width)
    middle = layers[COARSE_LAYERS[0]].start
    return {"fine": slice(0, middle), "coarse": slice(middle, layers[LAYER_NAMES[-1]].stop)}


@torch.no_grad()
def level_shapes(encoder: nn.Module, images: Tensor) -> tuple[LevelShape, ...]:
    """Return the shapes of the levels that ``encoder`` returns for images of this size, from the first image only."""
    training = encoder.training
    encoder.eval()
    levels = encoder(images[:1])
    encoder.train(training)
    return tuple(LevelShape(*level.shape[1:]) for level in levels)


def prefilter_shape(y: int, x: int) -> LevelShape:
    """Shape of the prefilter's maps of an image of ``y`` by ``x`` pixels."""
    return LevelShape(ALEXNET_SHAPES["features.3"][0], *(((size - 7) // 4 - 2) // 2 + 1 for size in (y, x)))


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution with uninitialised values: torch's own initialisation would use its global generator."""
    layer = nn.utils.skip_init(nn.Conv2d, inputs, outputs, kernel, stride=stride, padding=padding)
    return cast(nn.Conv2d, layer)
