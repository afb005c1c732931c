"""Variance partitioning finds planted shares, and its parts add up."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from nsdflow.analysis import variance_partition
from nsdflow.errors import SelectionError

BANDS = ["low", "high"]


def independent(trials: int = 20_000) -> tuple[xr.DataArray, xr.DataArray]:
    """Two independent bands with 30 % and 10 % of the variance; in the second voxel only the first."""
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((trials, 2, 2)) * np.sqrt([[0.3, 0.1], [0.3, 0.0]])
    noise = rng.standard_normal((trials, 2)) * np.sqrt([0.6, 0.7])
    contributions = xr.DataArray(parts, dims=("trial", "voxel", "band"), coords={"band": BANDS})
    return contributions, xr.DataArray(parts.sum(-1) + noise, dims=("trial", "voxel"))


def test_independent_bands_have_their_planted_variance() -> None:
    found = variance_partition(*independent())
    np.testing.assert_allclose(found["explained_variance"], [0.4, 0.3], atol=0.015)
    for kind in ("unique_variance", "product_variance"):
        np.testing.assert_allclose(found[kind].sel(band="low"), [0.3, 0.3], atol=0.015)
        np.testing.assert_allclose(found[kind].sel(band="high"), [0.1, 0.0], atol=0.015)
    np.testing.assert_allclose(found["shared_variance"], 0, atol=0.015)
    np.testing.assert_allclose(found["product_variance"].sum("band"), found["explained_variance"], atol=1e-12)
    assert (found["explained_variance_std"] < 0.01).all()


def test_explained_variance_is_that_of_scikit_learn() -> None:
    contributions, responses = independent(300)
    prediction = contributions.sum("band") + responses.mean("trial") - contributions.sum("band").mean("trial")
    expected = [r2_score(y, p) for y, p in zip(responses.T.values, prediction.T.values, strict=True)]
    np.testing.assert_allclose(variance_partition(contributions, responses)["explained_variance"], expected)


def test_leave_one_out_with_refits_is_commonality_analysis() -> None:
    """Two correlated features: unique and shared variance from plain regressions."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal(5000)
    b = 0.7 * a + np.sqrt(1 - 0.49) * rng.standard_normal(5000)
    y = a + 0.5 * b + rng.standard_normal(5000)
    features = np.column_stack([a, b])
    full = LinearRegression().fit(features, y)
    alone = [LinearRegression().fit(features[:, [k]], y).predict(features[:, [k]]) for k in (1, 0)]
    dims = ("trial", "voxel", "band")
    contributions = xr.DataArray((features * full.coef_)[:, None], dims=dims, coords={"band": BANDS})
    without = xr.DataArray(np.stack(alone, -1)[:, None], dims=dims, coords={"band": BANDS})
    responses = xr.DataArray(y[:, None], dims=("trial", "voxel"))
    found = variance_partition(contributions, responses, without=without)
    r2 = r2_score(y, full.predict(features))
    unique = [r2 - r2_score(y, prediction) for prediction in alone]
    np.testing.assert_allclose(found["unique_variance"][:, 0], unique, atol=1e-9)
    assert float(found["shared_variance"][0]) == pytest.approx(r2 - sum(unique))
    assert float(found["shared_variance"][0]) > 0.2
    # without refits, a correlated band cannot be replaced: more seems unique
    assert (variance_partition(contributions, responses)["unique_variance"][:, 0] > np.array(unique)).all()


def test_errors_are_those_of_resampled_trials_and_blocks_do_not_matter() -> None:
    contributions, responses = independent(400)
    found = variance_partition(contributions, responses, resamples=400)
    again = [variance_partition(*independent_of(seed), resamples=0)["unique_variance"] for seed in range(60)]
    spread = xr.concat(again, "seed").std("seed")
    np.testing.assert_allclose(found["unique_variance_std"], spread, rtol=0.35, atol=0.004)
    lazy = variance_partition(contributions.chunk(voxel=1), responses.chunk(voxel=1), resamples=400)
    assert lazy["unique_variance"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), found)


def independent_of(seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    contributions, responses = independent()
    rows = np.random.default_rng(seed).integers(0, 20_000, 400)
    return contributions.isel(trial=rows), responses.isel(trial=rows)


def test_bands_that_cannot_be_matched_are_refused() -> None:
    contributions, responses = independent(50)
    with pytest.raises(SelectionError, match="no dimension 'layer'"):
        variance_partition(contributions, responses, dim="layer")
    with pytest.raises(SelectionError, match="without has 1 bands"):
        variance_partition(contributions, responses, without=contributions.isel(band=[0]))
