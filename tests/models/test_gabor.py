"""Complex cells prefer their frequency and orientation, whatever the phase."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nsdflow.models.networks.gabor import PUBLISHED_FREQUENCIES, GaborPyramid, gabor_filters


def grating(frequency: float, angle: float, phase: float = 0.0, size: int = 227) -> Tensor:
    """Grey grating (1, 3, size, size), ``frequency`` cycles per image, of 0 to 255."""
    axis = (np.arange(size) + 0.5) / size
    along = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
    values = 127.5 * (1 + np.cos(2 * np.pi * frequency * along + phase))
    return torch.from_numpy(np.broadcast_to(values, (1, 3, size, size)).astype(np.float32))


def middle(maps: Tensor) -> Tensor:
    """Mean response away from the border, by orientation."""
    edge = maps.shape[-1] // 3
    return maps[0, :, edge:-edge, edge:-edge].mean((1, 2))


def test_sizes_of_the_published_levels() -> None:
    pyramid = GaborPyramid()
    assert len(PUBLISHED_FREQUENCIES) == len(pyramid.sides) == 12
    assert [side + 1 for side in pyramid.sides] == [13, 18, 23, 30, 40, 54, 71, 95, 126, 168, 224, 298]


@pytest.mark.parametrize("orientation", range(6))
def test_orientation(orientation: int) -> None:
    maps = GaborPyramid([12.0])(grating(12.0, orientation * np.pi / 6))[0]
    assert int(middle(maps).argmax()) == orientation


def test_frequency() -> None:
    frequencies = (6.0, 12.0, 24.0)
    for index, frequency in enumerate(frequencies):
        layers = GaborPyramid(frequencies)(grating(frequency, 0.0))
        assert int(torch.stack([middle(maps)[0] for maps in layers]).argmax()) == index


def test_phase_does_not_matter() -> None:
    pyramid = GaborPyramid([10.0])
    responses = [float(middle(pyramid(grating(10.0, 0.0, phase))[0])[0]) for phase in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(responses, responses[0], rtol=0.02)


def test_filters_are_a_quadrature_pair() -> None:
    even, odd = gabor_filters(4)
    torch.testing.assert_close(even, even.flip(1, 2))
    torch.testing.assert_close(odd, -odd.flip(1, 2))


def test_uint8_and_float_images_agree() -> None:
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pyramid = GaborPyramid([4.0])
    assert torch.equal(pyramid(images)[0], pyramid(images.float())[0])
