"""The Gabor pyramid of the Gabor-fwRF model: complex cells at 12 spatial frequencies and 6 orientations.

One small filter pair serves all frequencies: a higher frequency uses a larger image, not a smaller filter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nsdflow.models.networks.network import Network

__all__ = ["PUBLISHED_FREQUENCIES", "GaborPyramid", "gabor_filters", "open_gabor", "open_gabor_low"]

FILTER_PX: Final = 12
#: Pixels of the resized image for one cycle of the grating.
PIXELS_PER_CYCLE: Final = 4.13
CYCLES_PER_FILTER: Final = 2.8
#: Standard deviation of the envelope: 0.7 cycles.
ENVELOPE_PX: Final = 0.7 * PIXELS_PER_CYCLE
#: The twelve spatial frequencies of the published run, in cycles per image.
PUBLISHED_FREQUENCIES: Final = tuple(float(frequency) for frequency in np.geomspace(3.0, 72.0, 12))
#: Number of the lowest published spatial frequencies that images of about 64 pixels resolve: up to 23 cycles.
LOW_FREQUENCIES: Final = 8

LUMINANCE: Final = (0.2126, 0.7152, 0.0722)


def gabor_filters(orientations: int = 6) -> tuple[Tensor, Tensor]:
    """Even and odd filters, each (orientation, 12, 12) float64.

    The filters are gratings ``cos`` and ``sin`` of 2.8 cycles per filter at ``k pi / orientations``, under a Gaussian
    of unit mass. The twelve samples of an axis run from -6 to 6 pixels, both ends included.
    """
    axis = torch.linspace(-FILTER_PX / 2, FILTER_PX / 2, FILTER_PX, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = (torch.arange(orientations, dtype=torch.float64) * math.pi / orientations)[:, None, None]
    phase = 2 * math.pi * CYCLES_PER_FILTER / FILTER_PX * (x * angle.cos() + y * angle.sin())
    envelope = torch.exp(-(x**2 + y**2) / (2 * ENVELOPE_PX**2)) / (2 * math.pi * ENVELOPE_PX**2)
    return phase.cos() * envelope, phase.sin() * envelope


class GaborPyramid(nn.Module):
    """One layer of maps per frequency: local contrast energy, ``log(1 + sqrt(sqrt(even^2 + odd^2)))``.

    The grey image (0.2126 R + 0.7152 G + 0.0722 B, of image / 255) is resized bilinearly, without antialiasing, to
    ``round(4.13 f)`` pixels per side for frequency f, padded by 6, and convolved with the filter pairs. Maps are one
    pixel wider than the resized image.

    Parameters
    ----------
    frequencies : sequence of float
        Cycles per image, one layer each.
    orientations : int
        Channels of each layer.
    """

    def __init__(self, frequencies: Sequence[float] = PUBLISHED_FREQUENCIES, orientations: int = 6) -> None:
        super().__init__()
        self.sides = tuple(round(PIXELS_PER_CYCLE * frequency) for frequency in frequencies)
        self.orientations = orientations
        even, odd = gabor_filters(orientations)
        self.filters: Tensor
        self.register_buffer("filters", torch.cat([even, odd])[:, None].float())

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (image, orientation, y, x) per frequency, of images (image, 3, y, x), uint8 or floats of 0 to 255."""
        weights = torch.tensor(LUMINANCE, device=images.device)[:, None, None]
        grey = (images / 255 * weights).sum(1, keepdim=True)
        return [self._energy(grey, side) for side in self.sides]

    def _energy(self, grey: Tensor, side: int) -> Tensor:
        resized = functional.interpolate(grey, (side, side), mode="bilinear", align_corners=False)
        responses = functional.conv2d(resized, self.filters, padding=FILTER_PX // 2)
        even, odd = responses.split(self.orientations, dim=1)
        return torch.log1p(torch.sqrt(torch.sqrt(even.square() + odd.square())))


def open_gabor(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """The Gabor pyramid, a layer per spatial frequency."""
    return _pyramid(name, PUBLISHED_FREQUENCIES).only(layers)


def open_gabor_low(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """The lower frequencies of the Gabor pyramid, for small images, in a twentieth of the time."""
    return _pyramid(name, PUBLISHED_FREQUENCIES[:LOW_FREQUENCIES]).only(layers)


def _pyramid(name: str, frequencies: Sequence[float]) -> Network:
    names = [f"{frequency:.3g} cycles/image" for frequency in frequencies]
    return Network(name, GaborPyramid(frequencies), names, nn.Module.__call__, version="published")
