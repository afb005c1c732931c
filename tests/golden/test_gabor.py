"""The published Gabor pyramid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from nsdflow.models.networks.gabor import PUBLISHED_FREQUENCIES, GaborPyramid, gabor_filters

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def published(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("gabor_features")


def test_filters(published: Arrays) -> None:
    even, odd = gabor_filters(len(published["orientations"]))
    assert even.shape[1:] == (published["filter_pixels"],) * 2
    np.testing.assert_allclose(even, published["filter_real"], atol=1e-8)
    np.testing.assert_allclose(odd, published["filter_imag"], atol=1e-8)


def test_frequencies(published: Arrays) -> None:
    frequencies = published["cycles_per_image"]
    ends = [PUBLISHED_FREQUENCIES[0], PUBLISHED_FREQUENCIES[-1]]
    if len(frequencies) == len(PUBLISHED_FREQUENCIES) and np.allclose(frequencies[[0, -1]], ends):
        np.testing.assert_allclose(PUBLISHED_FREQUENCIES, frequencies, rtol=1e-6)


def test_maps(published: Arrays, golden_images: Callable[[Arrays], np.ndarray]) -> None:
    images = torch.from_numpy(golden_images(published))
    pyramid = GaborPyramid(published["cycles_per_image"], len(published["orientations"]))
    layers = pyramid(images)
    assert len(layers) == sum(key.endswith("_shape") for key in published)
    for index, maps in enumerate(layers):
        assert maps.shape == tuple(published[f"level_{index}_shape"])
        height, width = maps.shape[2:]
        np.testing.assert_allclose(maps.mean((2, 3)), published[f"level_{index}_mean"], atol=1e-6)
        np.testing.assert_allclose(maps[:, :, height // 2, width // 3], published[f"level_{index}_pix"], atol=2e-6)
