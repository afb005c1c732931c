"""Images of the sister experiments, as the main experiment would store them: (n, n, 3) uint8 on the screen's grey."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
from PIL import Image, ImageDraw, ImageFont

from nsdflow.synthetic.experiment.images import draw_image

__all__ = ["draw_bar", "draw_concept", "draw_synthetic"]

Floats = npt.NDArray[np.floating]
Picture = npt.NDArray[np.uint8]

_GREY = 127.0
_SCENES = 1_000_000  # first numbers of scenes and of concepts, which no image of the main experiment has
_CONCEPTS = 2_000_000
_WORDS = ("cat", "sea", "hill", "wave", "stone", "lemon", "violin", "window", "garden", "mountain")


def draw_synthetic(seed: int, image: int, size: int) -> Picture:
    """One of the 284 images of NSD-synthetic, from 0: noise, scenes, words, gratings and coloured noise."""
    rng = np.random.default_rng((seed, image, *b"synthetic"))
    if image < 12:
        return _grey(_noise(rng, size, slope=image // 4) * 50)
    if image < 64:
        return _of_scene(rng, _scene(seed, image % 4, size), image)
    if image < 104:
        return _word(_WORDS[(image - 64) // 4], (image - 64) % 4, size)
    if image < 216:
        kind, phase = divmod(image - 104, 4)
        return _grey(100 * _spiral(kind, phase * np.pi / 2, size))
    hue = (image - 216) // 4  # the first is achromatic, sixteen hues follow
    angle = 2 * np.pi * (hue - 1) / 16
    towards = np.ones(3) if hue == 0 else np.cos(angle + np.array([0, -2, 2]) * np.pi / 3)
    return _clip(_GREY + 50 * _noise(rng, size, slope=1)[..., None] * towards)


@lru_cache(maxsize=4)
def _scene(seed: int, number: int, size: int) -> Picture:
    """One of the four scenes, which several images show."""
    return draw_image(seed, _SCENES + number, size)


def _of_scene(rng: np.random.Generator, scene: Picture, image: int) -> Picture:
    """A scene as it is, upside down, in two tones, as lines, at five contrasts, at four phase coherences."""
    if image < 28:
        return (scene, scene[::-1], _two_tone(scene), _lines(scene))[(image - 12) // 4]
    grey = scene.mean(axis=-1)
    if image < 48:
        return _grey((grey - _GREY) * 2.0 ** -((image - 28) // 4))
    return _grey(_phases(rng, grey, ((image - 48) // 4) / 3))


def draw_bar(angles: tuple[float, ...], size: int) -> Picture:
    """A dark bar through the centre for each angle (degrees, counter-clockwise from the horizontal)."""
    x, y = _grid(size)
    bars = [
        (abs(y * np.cos(a) - x * np.sin(a)) < 0.03) & (abs(x * np.cos(a) + y * np.sin(a)) < 0.35)
        for a in np.deg2rad(angles)
    ]
    return _grey(np.where(np.any(bars, axis=0), -_GREY, 0.0))


def draw_concept(seed: int, concept: int, exemplar: int, size: int) -> Picture:
    """An example of a concept: another scene each time, with a grating that belongs to the concept."""
    scene = draw_image(seed, _CONCEPTS + 8 * concept + exemplar, size).astype(float)
    return _clip(0.6 * scene + 0.4 * (_GREY + 120 * _spiral(4 * concept, 0.0, size)[..., None]))


def _grid(size: int) -> tuple[Floats, Floats]:
    """x to the right and y upward of each pixel, in image widths from the centre."""
    along = (np.arange(size) + 0.5) / size - 0.5
    return along[None, :] + 0 * along[:, None], -along[:, None] + 0 * along[None, :]


def _noise(rng: np.random.Generator, size: int, slope: int) -> Floats:
    """Noise of unit variance whose amplitude falls with frequency to the power of ``slope``."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf if slope else 1.0
    values = scipy.fft.irfft2(scipy.fft.rfft2(rng.standard_normal((size, size))) / frequency**slope, s=(size, size))
    return np.asarray(values / values.std())


def _phases(rng: np.random.Generator, scene: Floats, coherence: float) -> Floats:
    """A scene whose phases are mixed with those of noise."""
    spectrum = scipy.fft.rfft2(scene - scene.mean())
    other = scipy.fft.rfft2(rng.standard_normal(scene.shape))
    direction = coherence * np.exp(1j * np.angle(spectrum)) + (1 - coherence) * np.exp(1j * np.angle(other))
    return np.asarray(scipy.fft.irfft2(np.abs(spectrum) * np.exp(1j * np.angle(direction)), s=scene.shape))


def _two_tone(scene: Picture) -> Picture:
    grey = scene.mean(axis=-1)
    return _grey(np.where(grey > np.median(grey), 110.0, -110.0))


def _lines(scene: Picture) -> Picture:
    down, across = np.gradient(scene.mean(axis=-1))
    steep = np.hypot(down, across)
    return _grey(np.where(steep > np.quantile(steep, 0.9), -_GREY, 0.0))


def _word(word: str, place: int, size: int) -> Picture:
    """A word in one of four places."""
    small = Image.new("L", (80, 80), round(_GREY))
    x, y = 20 + 40 * (place % 2), 25 + 30 * (place // 2)
    ImageDraw.Draw(small).text((x, y), word, fill=0, font=ImageFont.load_default(), anchor="mm")
    return np.repeat(np.asarray(small.resize((size, size), Image.Resampling.BILINEAR))[..., None], 3, axis=-1)


def _spiral(kind: int, phase: float, size: int) -> Floats:
    """Gratings in log-polar coordinates, from spokes through spirals to rings, as frequencies rise; in [-1, 1]."""
    x, y = _grid(size)
    cycles, direction = 6 * 2 ** (kind % 4), np.pi * (kind // 4) / 7
    radius = np.hypot(x, y)
    spokes = np.round(cycles * np.cos(direction))  # a whole number of them, so that the ends meet
    wave = np.cos(cycles * np.sin(direction) * np.log(radius + 0.02) + spokes * np.arctan2(y, x) + phase)
    return np.asarray(np.where(radius < 0.48, wave, 0.0))


def _grey(deviation: Floats) -> Picture:
    """Deviations from the screen's grey as a picture without colour."""
    return _clip(np.repeat((_GREY + deviation)[..., None], 3, axis=-1))


def _clip(values: Floats) -> Picture:
    return np.asarray(np.clip(values + 0.5, 0, 255), dtype=np.uint8)
