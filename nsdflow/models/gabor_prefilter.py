"""A prefilter that needs no download: Gabor filters and seeded combinations of them, in AlexNet's shapes.

The first layer has 48 luminance Gabors (three wavelengths, four orientations, and four phases, so that both polarities
survive the ReLU) and 16 colour-opponent filters. Each channel of the second layer combines a few channels of the first
at nearby places, with more excitation than inhibition. Both layers are scaled to unit variance before the ReLU, on
images with a 1/f spectrum that are drawn from the same seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["gabor_prefilter_weights"]

#: Wavelengths, and the standard deviation of the envelope. The kernel has 11 pixels per side.
_WAVELENGTHS_PX: Final = (3.5, 5.5, 9.0)
_COLOUR_WAVELENGTH_PX: Final = 11.0
_ENVELOPE_PX: Final = 2.6
_ORIENTATIONS: Final = tuple(np.pi * k / 4 for k in range(4))
_PHASES: Final = tuple(np.pi * k / 2 for k in range(4))
#: Red-green and blue-yellow opponency, over the channels R, G, B.
_OPPONENTS: Final = ((1.0, -1.0, 0.0), (-0.5, -0.5, 1.0))
#: Signs with which a channel of the second layer combines channels of the first.
_SIGNS: Final = (1.0, 1.0, 1.0, 1.0, -1.0, -1.0)


def gabor_prefilter_weights(seed: int = 0) -> dict[str, Tensor]:
    """Weights for :class:`~nsdflow.models.gnet.Prefilter`, under AlexNet's keys ``features.0`` and ``features.3``."""
    draw = np.random.default_rng(seed)
    images = _one_over_f(draw, images=32, size=64)
    first = torch.from_numpy(_gabor_bank()).float()
    first /= functional.conv2d(images, first, stride=4, padding=2).std((0, 2, 3))[:, None, None, None]
    maps = functional.max_pool2d(functional.relu(functional.conv2d(images, first, stride=4, padding=2)), 3, stride=2)
    second = torch.from_numpy(_combinations(draw)).float()
    drive = functional.conv2d(maps, second, padding=2)
    scale = drive.std((0, 2, 3))
    return {
        "features.0.weight": first,
        "features.0.bias": torch.zeros(len(first)),
        "features.3.weight": second / scale[:, None, None, None],
        "features.3.bias": -drive.mean((0, 2, 3)) / scale,
    }


def _gabor_bank() -> NDArray[np.float64]:
    """Filters (64, 3, 11, 11) of zero mean: luminance first, then colour."""
    luminance = [
        np.multiply.outer(np.full(3, 1 / 3), _gabor(wavelength, angle, phase))
        for wavelength in _WAVELENGTHS_PX
        for angle in _ORIENTATIONS
        for phase in _PHASES
    ]
    colour = [
        np.multiply.outer(np.array(axis), sign * _gabor(_COLOUR_WAVELENGTH_PX, angle, 0.0, centred=False))
        for axis in _OPPONENTS
        for angle in _ORIENTATIONS
        for sign in (1.0, -1.0)
    ]
    return np.stack(luminance + colour)


def _gabor(wavelength: float, angle: float, phase: float, *, centred: bool = True) -> NDArray[np.float64]:
    """A Gabor (11, 11). ``centred`` subtracts its mean; opponent filters have zero mean over their channels."""
    size = ALEXNET_SHAPES["features.0"][2]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    along = x * np.cos(angle) + y * np.sin(angle)
    envelope = np.exp(-(x**2 + y**2) / (2 * _ENVELOPE_PX**2))
    kernel = envelope * np.cos(2 * np.pi * along / wavelength + phase)
    if centred:
        kernel -= envelope * kernel.sum() / envelope.sum()
    return np.asarray(kernel)


def _combinations(draw: np.random.Generator) -> NDArray[np.float64]:
    """Filters (192, 64, 5, 5). Each combines a few channels, each under a Gaussian at another place."""
    outputs, inputs, size, _ = ALEXNET_SHAPES["features.3"]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    kernels = np.zeros((outputs, inputs, size, size))
    for kernel in kernels:
        for channel, sign in zip(draw.choice(inputs, size=len(_SIGNS), replace=False), _SIGNS, strict=True):
            centre_y, centre_x = draw.normal(scale=1.0, size=2)
            blob = np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / 2)
            kernel[channel] = sign * draw.uniform(0.5, 1.5) * blob
    return kernels


def _one_over_f(draw: np.random.Generator, *, images: int, size: int) -> Tensor:
    """Images (image, 3, size, size) of amplitude 1 / f and deviation 0.25. Channels share most of their signal."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf  # no mean
    noise = np.fft.irfft2(np.fft.rfft2(draw.standard_normal((images, 4, size, size))) / frequency, s=(size, size))
    mixed = noise[:, :1] + 0.3 * noise[:, 1:]
    return torch.from_numpy(0.25 * mixed / mixed.std()).float()
