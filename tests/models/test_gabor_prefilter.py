"""The prefilter that needs no download."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import Prefilter
from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES


def test_shapes_are_alexnets_and_seeds_decide() -> None:
    a, b, other = gabor_prefilter_weights(0), gabor_prefilter_weights(0), gabor_prefilter_weights(1)
    for name in ("features.0", "features.3"):
        assert tuple(a[f"{name}.weight"].shape) == ALEXNET_SHAPES[name]
        assert torch.equal(a[f"{name}.weight"], b[f"{name}.weight"])
    assert not torch.equal(a["features.3.weight"], other["features.3.weight"])


def test_first_layer_ignores_uniform_light_and_prefers_orientations() -> None:
    weights = gabor_prefilter_weights(0)["features.0.weight"]
    np.testing.assert_allclose(weights.sum((1, 2, 3)), 0, atol=1e-4)
    y, x = np.mgrid[:11, :11] - 5.0
    responses = []
    for angle in np.pi * np.arange(4) / 4:
        grating = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / 5.5)
        image = torch.from_numpy(np.broadcast_to(grating, (1, 3, 11, 11)).copy()).float()
        responses.append(functional.conv2d(image, weights).flatten())
    luminance = torch.stack(responses)[:, 16:32].view(4, 4, 4).amax(2)  # grating, orientation, phase: the middle size
    assert luminance.argmax(1).tolist() == [0, 1, 2, 3]


def test_maps_are_alive_and_of_unit_size() -> None:
    """On grey blocks with some colour, which have sharper edges than the images the filters were scaled on."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 200, (8, 1, 13, 13)) + random.integers(0, 56, (8, 3, 13, 13))
    images = torch.from_numpy(blocks.astype(np.uint8).repeat(8, axis=2).repeat(8, axis=3))
    maps = Prefilter(gabor_prefilter_weights(0), mean=(0.5, 0.5, 0.5))(images)
    assert (maps.amax((0, 2, 3)) > 0).float().mean() > 0.95
    assert 0.2 < maps.std() < 5
