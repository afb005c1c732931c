"""Correlations and means against numpy's, column by column."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nsdflow.fit.statistics import channel_mean, channel_sums, correlate_columns


@given(
    trials=st.integers(2, 40), voxels=st.integers(1, 6), seed=st.integers(0, 99), scale=st.sampled_from([1e-4, 1, 1e4])
)
def test_correlation(trials: int, voxels: int, seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    x, y = random.standard_normal((2, trials, voxels)) * scale + 3
    expected = [np.corrcoef(x[:, v], y[:, v])[0, 1] for v in range(voxels)]
    np.testing.assert_allclose(correlate_columns(torch.from_numpy(x), torch.from_numpy(y)), expected, atol=1e-9)


def test_what_has_no_variance_has_no_correlation() -> None:
    x = torch.full((7, 3), 0.1)
    y = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    x[:, 2] = y[:, 2]
    assert correlate_columns(x, y).tolist()[:2] == [0, 0]
    assert correlate_columns(x, y)[2] == 1
    assert correlate_columns(y[:1], y[:1]).tolist() == [0, 0, 0]


def test_channel_mean() -> None:
    images = torch.randint(0, 256, (6, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sums, pixels = channel_sums(images), 20
    everything = [torch.arange(6)]
    np.testing.assert_allclose(channel_mean(sums, everything, pixels), images.numpy().mean((0, 2, 3)) / 255, rtol=1e-14)
    rows = [torch.tensor([0, 1, 1, 0, 2]), torch.tensor([1, 5])]  # an image counts once per list, a list as one
    expected = np.mean([images.numpy()[of].mean((0, 2, 3)) / 255 for of in ([0, 1, 2], [1, 5])], axis=0)
    np.testing.assert_allclose(channel_mean(sums, rows, pixels), expected, rtol=1e-14)
    np.testing.assert_array_equal(channel_sums(images, torch.tensor([4, 0])), sums[[4, 0]])
