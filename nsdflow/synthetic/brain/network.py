"""The planted network that synthetic voxels compute, in numpy.

Level 1 is a bank of oriented energies: quadrature pairs of log-Gabor filters at a few spatial frequencies, amplitude
compressed by a square root. Level 2 blurs these maps, subtracts the mean of the channels, divides by the contrast of
the image, and rectifies fixed random combinations of the channels. Level 1 is thus close to what Gabor models and first
convolutional layers carry, and level 2 is one convolution and rectification away from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.fft
from PIL import Image
from scipy.ndimage import uniform_filter

__all__ = ["CHANNELS", "FREQUENCIES", "LEVELS", "ORIENTATIONS", "PlantedNetwork", "grey_images", "level_of_feature"]

Floats = npt.NDArray[np.float32]

#: Spatial frequencies of level 1, in cycles per image, at which the published Gabor pyramid can predict the maps. The
#: pyramid resizes images without antialiasing, to round(4.13 f) pixels per side for frequency f. On the demo's images,
#: its maps correlate with antialiased ones by 0.77 at 3 cycles, 0.85 at 4, 0.91 at 5, and more than 0.95 from 7 on.
FREQUENCIES = (6.0, 8.0, 11.0, 15.0)
#: Orientations of level 1, in radians: the direction in which the grating varies, y upward.
ORIENTATIONS = tuple(np.pi * k / 6 for k in range(6))
LEVELS = 2
#: Channels of every level.
CHANNELS = len(FREQUENCIES) * len(ORIENTATIONS)
#: Pixels per side of the grey image, and of the maps of the levels.
GREY_SIZE_PX = 64
MAP_SIZES_PX = (32, 16)

_MARGIN_PX = 16  # grey surround on each side: NSD showed its images on a uniform grey field
_OCTAVES = 0.55  # standard deviation of a filter in log2 frequency
_ANGLE = np.pi / 9  # standard deviation of a filter in orientation
_THRESHOLD = 0.7  # of the rectification, in units of the normalised channels, which makes most of a map zero
_GREY = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def level_of_feature() -> npt.NDArray[np.int64]:
    """Level (1-based) of each feature, in the order in which weights count them."""
    return np.repeat(np.arange(1, LEVELS + 1), CHANNELS)


def grey_images(images: npt.NDArray[np.uint8]) -> Floats:
    """RGB images (n, y, x, 3) uint8 to the input of the network: (n, 64, 64) float32, 0 = the grey of the screen."""
    small = [Image.fromarray(image).resize((GREY_SIZE_PX, GREY_SIZE_PX), Image.Resampling.BOX) for image in images]
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in small])
    return np.asarray(pixels @ (_GREY / 255) - np.float32(127 / 255), dtype=np.float32)


@dataclass(frozen=True)
class PlantedNetwork:
    """The network of one seed; only its second level depends on it."""

    seed: int

    def maps(self, images: npt.NDArray[np.uint8], levels: int = LEVELS) -> list[Floats]:
        """Feature maps of RGB images (n, y, x, 3), one array (n, channel, y, x) for each of the first ``levels``."""
        maps = [_energies(grey_images(images), self._filters)]
        if levels > 1:
            maps.append(_deeper(maps[0], self._mixing))
        return maps

    @cached_property
    def _filters(self) -> Floats:
        return _log_gabor_bank(GREY_SIZE_PX + 2 * _MARGIN_PX)

    @cached_property
    def _mixing(self) -> Floats:
        """Weights of level 2, (channel out, channel in), each row of unit length."""
        rng = np.random.default_rng((self.seed, *b"network"))
        weights = rng.standard_normal((CHANNELS, CHANNELS), dtype=np.float32)
        return np.asarray(weights / np.linalg.norm(weights, axis=-1, keepdims=True), dtype=np.float32)


def _log_gabor_bank(size: int) -> Floats:
    """One-sided transfer functions (channel, size, size); channel = frequency x orientation, orientation fastest.

    Being one-sided, a filter gives the analytic signal: its modulus is the energy of the quadrature pair.
    """
    fy, fx = np.meshgrid(-np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")  # rows go down, y goes up
    frequency, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    frequency[0, 0] = 1e-9
    bank = []
    for cycles in FREQUENCIES:
        radial = np.exp(-0.5 * (np.log2(frequency * GREY_SIZE_PX / cycles) / _OCTAVES) ** 2)
        for orientation in ORIENTATIONS:
            turn = np.angle(np.exp(1j * (angle - orientation)))
            bank.append(2 * radial * np.exp(-0.5 * (turn / _ANGLE) ** 2))
    return np.asarray(bank, dtype=np.float32)


def _energies(grey: Floats, filters: Floats) -> Floats:
    """Level 1: square root of the local amplitude, one value for every 2 x 2 pixels, (n, channel, 32, 32)."""
    size = filters.shape[-1]
    half = size // 2
    field = np.pad(grey, ((0, 0), (_MARGIN_PX, _MARGIN_PX), (_MARGIN_PX, _MARGIN_PX)))
    shift = np.exp(1j * np.pi * np.fft.fftfreq(size)).astype(np.complex64)  # to the middle of each pair of pixels
    spectrum = scipy.fft.fft2(field) * shift[:, None] * shift
    inner = slice(_MARGIN_PX // 2, _MARGIN_PX // 2 + MAP_SIZES_PX[0])
    maps = np.empty((len(grey), len(filters), MAP_SIZES_PX[0], MAP_SIZES_PX[0]), dtype=np.float32)
    for channel, transfer in enumerate(filters):
        # folding a spectrum samples its signal at every second pixel: a quarter of the transform to do
        folded = (spectrum * transfer).reshape(-1, 2, half, 2, half).sum(axis=(1, 3))
        maps[:, channel] = np.sqrt(np.abs(scipy.fft.ifft2(folded)[:, inner, inner] / 4))
    return maps


def _deeper(maps: Floats, mixing: Floats) -> Floats:
    """Level 2: pool, blur, centre and normalise, combine, rectify; (n, channel, 16, 16)."""
    size = MAP_SIZES_PX[1]
    pooled = maps.reshape(*maps.shape[:2], size, -1, size, maps.shape[-1] // size).mean(axis=(3, 5))
    blurred = uniform_filter(pooled, size=(1, 1, 3, 3), mode="nearest")
    centred = blurred - blurred.mean(axis=1, keepdims=True)
    normalised = centred / (np.sqrt((centred**2).mean(axis=(1, 2, 3), keepdims=True)) + np.float32(1e-6))
    combined = np.einsum("oc,ncyx->noyx", mixing, normalised, optimize=True)
    return np.asarray(np.maximum(combined - np.float32(_THRESHOLD), 0), dtype=np.float32)
