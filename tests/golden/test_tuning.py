"""Variance shares of the published code, from its own correlations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import variance_shares

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def published(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("tuning")


@pytest.fixture(scope="module")
def shares(published: Arrays) -> xr.Dataset:
    correlations = {}
    for name, key in (("accuracy", "val_cc"), ("inclusion", "incl_val_cc"), ("exclusion", "excl_val_cc")):
        values = published[key]
        dims = ("partition", "voxel")[2 - (values.ndim - 1) :]
        correlations[name] = (dims, values[..., 0])
        correlations[name + "_std"] = (dims, values[..., 1])
    return variance_shares(xr.Dataset(correlations))


@pytest.mark.parametrize(("kind", "key"), [("shared", "incl"), ("unique", "excl")])
@pytest.mark.parametrize("suffix", ["", "_error", "_argmax", "_spread"])
def test_variance_shares_are_the_published_ones(
    shares: xr.Dataset, published: Arrays, kind: str, key: str, suffix: str
) -> None:
    theirs = {"": "_tuning", "_error": "_tuning_err"}.get(suffix, suffix)
    np.testing.assert_allclose(shares[kind + suffix], published[key + theirs], rtol=1e-9, atol=1e-9)
