"""The published grid of candidates and their pooling weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nsdflow.models.pooling import candidate_grid, log_spaced_sizes, pooling_weights

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def published(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("pooling_grid")


def file_sizes(candidates: np.ndarray) -> np.ndarray:
    """Sizes in the order in which the file has them."""
    _, first = np.unique(candidates[:, 2], return_index=True)
    return candidates[np.sort(first), 2]


def test_grid_of_the_same_sizes_is_the_published_one(published: Arrays) -> None:
    candidates = published["candidates"]
    grid = candidate_grid(file_sizes(candidates))
    assert grid.shape == candidates.shape
    np.testing.assert_allclose(grid, candidates, rtol=0, atol=1e-7)


def test_published_sizes_are_log_spaced(published: Arrays) -> None:
    sizes = file_sizes(published["candidates"])
    np.testing.assert_allclose(log_spaced_sizes(len(sizes), sizes[0], sizes[-1]), sizes, rtol=1e-6)


def test_weights(published: Arrays) -> None:
    picked = published["candidates"][published["picked"]]
    masses = {int(key.removeprefix("mass_")): values for key, values in published.items() if key.startswith("mass_")}
    assert masses
    for size, mass in masses.items():
        weights = pooling_weights(picked, size)
        assert weights.shape == mass.shape
        np.testing.assert_allclose(weights, mass, rtol=0, atol=1e-5 * mass.max())
