"""Gaussian fits of pooling fields as the published code found them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import pooling_field_fits

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def published(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("rf_gaussian_fit")


@pytest.fixture(scope="module")
def fits(published: Arrays) -> xr.Dataset:
    return pooling_field_fits(xr.DataArray(published["pooling"], dims=("voxel", "y", "x")))


def upright(parameters: np.ndarray) -> np.ndarray:
    """One of the many names of each Gaussian: angle in [-pi/4, pi/4), sizes exchanged by a quarter turn."""
    named = parameters.copy()
    for row in named:
        while not -np.pi / 4 <= row[5] < np.pi / 4:
            row[5] -= np.sign(row[5]) * np.pi / 2
            row[3], row[4] = row[4], row[3]
    return named


def test_parameters(fits: xr.Dataset, published: Arrays) -> None:
    assert fits["fitted"].all()
    np.testing.assert_allclose(fits["parameters"], upright(published["params"]), rtol=1e-6, atol=1e-7)


def test_residual(fits: xr.Dataset, published: Arrays) -> None:
    np.testing.assert_allclose(fits["residual"], published["residual"], rtol=1e-8)


def test_orientation(fits: xr.Dataset, published: Arrays) -> None:
    np.testing.assert_allclose(fits["orientation"], published["orientation"], atol=1e-6)
