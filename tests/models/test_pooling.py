"""Candidates and pooling weights against integrals, and pooling against a plain sum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from nsdflow.models.pooling import CANDIDATE_TILE, candidate_grid, log_spaced_sizes, pool, pooling_weights


def gaussian_mass(x: float, y: float, sigma: float, size: int) -> np.ndarray:
    """Integral of the Gaussian over each pixel, by quadrature; row 0 is the top of the map."""
    edges = np.linspace(-0.5, 0.5, size + 1)

    def along(centre: float) -> np.ndarray:
        def density(t: float) -> float:
            return float(np.exp(-0.5 * ((t - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)))

        pairs = itertools.pairwise(edges)
        return np.array([integrate.quad(density, low, high, points=[centre])[0] for low, high in pairs])

    return along(y)[::-1, None] * along(x)[None, :]


@pytest.mark.parametrize(("count", "smallest", "spacing", "total"), [(8, 0.03, 1.0, 2680), (8, 0.04, 1.4, 875)])
def test_published_grids(count: int, smallest: float, spacing: float, total: int) -> None:
    grid = candidate_grid(log_spaced_sizes(count, smallest, 0.4), spacing=spacing)
    assert grid.shape == (total, 3)
    assert grid[:, :2].min() == -0.55
    assert grid[:, :2].max() == 0.55


def test_grid_refuses_sizes_that_are_not_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        candidate_grid([0.1, 0.0])


@given(
    x=st.floats(-0.55, 0.55),
    y=st.floats(-0.55, 0.55),
    size=st.sampled_from([1, 5, 13]),
    fraction=st.floats(0.05, 0.95),
)
@settings(max_examples=25)
def test_small_fields_are_exact_mass(x: float, y: float, size: int, fraction: float) -> None:
    sigma = fraction / size
    weights = pooling_weights(np.array([[x, y, sigma]]), size)[0]
    np.testing.assert_allclose(weights, gaussian_mass(x, y, sigma, size), atol=1e-7)


def test_wide_fields_are_sampled_and_y_points_up() -> None:
    size, x, y, sigma = 9, 0.2, 0.3, 0.25
    centres = (np.arange(size) + 0.5) / size - 0.5
    squared = (centres[::-1, None] - y) ** 2 + (centres[None, :] - x) ** 2
    expected = np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2 * size**2)
    weights = pooling_weights(np.array([[x, y, sigma]]), size)[0].numpy()
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    assert row < size // 2 < column


def test_no_size_no_weight() -> None:
    assert not pooling_weights(np.array([[0.0, 0.0, 0.0], [0.1, 0.0, -1.0]]), 4).any()


def test_pool_is_the_weighted_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(7, 3, 6, 6, generator=generator), torch.randn(7, 4, 1, 1, generator=generator)]
    candidates = candidate_grid([0.3, 0.5])
    rows = torch.tensor([5, 0, 6])
    pooled = pool(maps, candidates, range(3, len(candidates)), rows)
    parts = [
        torch.einsum("icyx,kyx->kic", level[rows].double(), pooling_weights(candidates[3:], level.shape[-1]))
        for level in maps
    ]
    torch.testing.assert_close(pooled.double(), torch.cat(parts, dim=2), rtol=1e-5, atol=1e-6)


@given(start=st.integers(0, 90), length=st.integers(1, 90))
@settings(max_examples=20)
def test_block_of_candidates_never_changes_a_bit(start: int, length: int) -> None:
    generator = torch.Generator().manual_seed(1)
    maps = [torch.rand(150, 3, 5, 5, generator=generator).numpy()]
    candidates = candidate_grid([0.12])
    assert len(candidates) > 2 * CANDIDATE_TILE
    block = range(start, min(start + length, len(candidates)))
    rows = torch.arange(150)
    whole = pool(maps, candidates, range(len(candidates)), rows)
    assert torch.equal(pool(maps, candidates, block, rows), whole[block.start : block.stop])
