"""Images of natural statistics: dead leaves over 1/f texture, each drawn from its own seed.

A dead-leaves image is a pile of opaque shapes whose radii follow a power law with exponent -3, the one for which the
pile looks the same at every scale. Occlusion gives edges, the power law gives a power spectrum near 1/f^2, and each
leaf shows a patch of oriented 1/f texture at its own contrast. Photographs have these properties and noise lacks them,
and oriented filters respond to them (Lee, Mumford & Huang, Occlusion models for natural images, IJCV 2001).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
from PIL import Image, ImageDraw

__all__ = ["LeafPile", "draw_image", "render_images"]

Floats = npt.NDArray[np.floating]

_LEAVES = 350
_CORNERS = 14  # a leaf is an ellipse drawn as a polygon with this number of corners
_LARGEST_RADIUS = 0.4  # in image widths
_SMALLEST_RADIUS = (0.008, 0.03)  # range over images: fine gravel to large objects
_TEXTURE_STRENGTH = 50.0  # standard deviation on a leaf of full texture, in grey levels


def draw_image(seed: int, image: int, size: int) -> npt.NDArray[np.uint8]:
    """Draw one image (size, size, 3) uint8, RGB. It depends only on ``(seed, image, size)``.

    Parameters
    ----------
    image : int
        Index of the image, 0-based (``nsd_id``).
    size : int
        Pixels per side.
    """
    return LeafPile.of(seed, image).paint(size)


@dataclass(frozen=True)
class LeafPile:
    """Shapes from which an image is painted."""

    direction: float
    """Radians, in which most leaves and the texture's grain lie."""
    outlines: Floats
    """(leaf, corner, xy) in image widths, in painting order."""
    fills: npt.NDArray[np.intp]
    """(1 + leaf, 4) colour and texture contrast, 0 to 255, of the ground and of every leaf."""
    rng: np.random.Generator
    """Draws the texture."""

    @classmethod
    def of(cls, seed: int, image: int) -> LeafPile:
        """The pile of one image."""
        rng = np.random.default_rng((seed, image))
        direction = rng.uniform(0, np.pi)
        return cls(direction, _outlines(rng, direction), _fills(rng), rng)

    def paint(self, size: int) -> npt.NDArray[np.uint8]:
        """The image (size, size, RGB); once, since the texture is drawn from the generator."""
        painted = _paint(self.outlines * size, self.fills, size)
        colour, contrast = painted[..., :3], painted[..., 3:] * np.float32(_TEXTURE_STRENGTH / 255)
        grained = colour + contrast * _texture(self.rng, self.direction, size)[..., None]
        return np.clip(grained + np.float32(0.5), 0, 255).astype(np.uint8)

    def labels(self, size: int) -> npt.NDArray[np.int64]:
        """The leaf that each pixel (size, size) shows, from 1; 0 is the ground."""
        numbers = np.arange(len(self.fills))
        # 16 bits are enough for all leaves, and fit into two channels of those that the image is painted with
        coded = np.stack([numbers % 256, numbers // 256, 0 * numbers, 0 * numbers], axis=1)
        painted = _paint(self.outlines * size, coded, size).astype(np.int64)
        return np.asarray(painted[..., 0] + 256 * painted[..., 1])


def render_images(seed: int, images: Iterable[int], size: int) -> npt.NDArray[np.uint8]:
    """Several images stacked, (image, row, column, RGB) uint8."""
    return np.stack([draw_image(seed, image, size) for image in images])


def _outlines(rng: np.random.Generator, direction: float) -> Floats:
    """Corners of every leaf, (leaf, corner, xy) in image widths, in painting order."""
    smallest = np.exp(rng.uniform(*np.log(_SMALLEST_RADIUS)))
    # inverse of the cumulative distribution of p(r) ~ r^-3 between the two radii
    mix = rng.random(_LEAVES)
    radius = (mix * _LARGEST_RADIUS**-2 + (1 - mix) * smallest**-2) ** -0.5
    stretch = np.exp(rng.normal(0, 0.45, _LEAVES))
    angle = direction + rng.normal(0, 0.5, _LEAVES)
    turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    along = (radius * stretch)[:, None] * np.cos(turn)
    across = (radius / stretch)[:, None] * np.sin(turn)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    offsets = np.stack([along * cos - across * sin, along * sin + across * cos], axis=-1)
    return np.asarray(rng.random((_LEAVES, 1, 2)) + offsets)


def _fills(rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Colour and texture contrast of the ground and of every leaf, (1 + leaf, RGBA) 0..255."""
    luminance = rng.uniform(0, 255, (_LEAVES + 1, 1))
    cast = rng.normal(0, 15, (1, 3))  # light of the whole scene
    colour = luminance + cast + rng.normal(0, 18, (_LEAVES + 1, 3))
    contrast = 255 * rng.random((_LEAVES + 1, 1)) ** 2
    return np.clip(np.hstack([colour, contrast]), 0, 255).astype(np.intp)


def _paint(outlines: Floats, fills: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.uint8]:
    """The pile of leaves, later ones on top: colour in RGB, texture contrast in the fourth channel."""
    ground, *leaves = [tuple(fill) for fill in fills.tolist()]
    canvas = Image.new("RGBA", (size, size), ground)
    pen = ImageDraw.Draw(canvas)
    for corners, fill in zip(outlines.reshape(len(outlines), -1).tolist(), leaves, strict=True):
        pen.polygon(corners, fill=fill)
    return np.asarray(canvas)


def _texture(rng: np.random.Generator, direction: float, size: int) -> npt.NDArray[np.float32]:
    """Gaussian noise of 1/f amplitude with a grain along ``direction``, unit standard deviation, (size, size)."""
    grid = scipy.fft.next_fast_len(size, real=True)
    fy, fx = np.fft.fftfreq(grid)[:, None], np.fft.rfftfreq(grid)[None, :]
    cos, sin = np.float32(np.cos(direction)), np.float32(np.sin(direction))
    # a grain along the direction has low frequencies along it: stretch the frequency plane there
    frequency = np.hypot(2.0 * (fx * cos + fy * sin), 0.7 * (fy * cos - fx * sin)).astype(np.float32)
    frequency[0, 0] = np.inf
    noise = rng.standard_normal((*frequency.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    texture = scipy.fft.irfft2(noise / frequency, s=(grid, grid))[:size, :size]
    return np.asarray(texture / texture.std(), dtype=np.float32)
