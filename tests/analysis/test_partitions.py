"""Tuning by partition against predictions made and correlated one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdflow.analysis import accuracy, roi_summary, tuning, uncertainty, variance_shares

BOUNDS = (0, 3, 4, 9, 12)
"""Partitions of 12 features."""


def simulate(seed: int = 0, images: int = 40, voxels: int = 6) -> tuple[xr.DataArray, np.ndarray, np.ndarray]:
    """Responses by trial, features by image and weights."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((images, voxels, BOUNDS[-1])).astype(np.float32)
    weights = rng.standard_normal((voxels, BOUNDS[-1])).astype(np.float32)
    signal = np.einsum("ivf,vf->iv", features, weights)
    shown = np.repeat(np.arange(images), 3)
    noise = 4 * rng.standard_normal((shown.size, voxels)).astype(np.float32)
    responses = xr.DataArray(signal[shown] + noise, dims=("trial", "voxel"), coords={"nsd_id": ("trial", shown + 70)})
    return responses, features, weights


def predict(features: np.ndarray, weights: np.ndarray) -> xr.DataArray:
    return xr.DataArray(
        np.einsum("ivf,vf->iv", features, weights),
        dims=("image", "voxel"),
        coords={"nsd_id": ("image", np.arange(features.shape[0]) + 70)},
    )


def partial_sums(features: np.ndarray, weights: np.ndarray) -> xr.DataArray:
    parts = [predict(features[..., a:b], weights[:, a:b]) for a, b in pairwise(BOUNDS)]
    return xr.concat(parts, "partition")


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_inclusion_and_exclusion_are_predictions_with_weights_set_to_zero(seed: int) -> None:
    responses, features, weights = simulate(seed)
    result = tuning(partial_sums(features, weights), responses, resamples=16, seed=5)
    for k, (a, b) in enumerate(pairwise(BOUNDS)):
        inside = np.isin(np.arange(BOUNDS[-1]), np.arange(a, b))
        for name, kept in (("inclusion", inside), ("exclusion", ~inside)):
            # the bias is kept: a constant that no correlation sees
            expected = uncertainty(predict(features, weights * kept) + 3, responses, resamples=16, seed=5)
            np.testing.assert_allclose(result[name][k], expected["accuracy_mean"], atol=1e-4)
            np.testing.assert_allclose(result[name + "_std"][k], expected["accuracy_std"], atol=1e-4)


def test_inclusion_over_all_partitions_sums_to_the_full_prediction() -> None:
    responses, features, weights = simulate()
    parts = partial_sums(features, weights)
    full = predict(features, weights)
    xr.testing.assert_allclose(parts.sum("partition"), full, atol=1e-4)
    whole = uncertainty(full, responses)
    result = tuning(parts, responses)
    np.testing.assert_allclose(result["accuracy"], whole["accuracy_mean"], atol=1e-5)
    np.testing.assert_allclose(result["accuracy_std"], whole["accuracy_std"], atol=1e-5)
    one = tuning(parts.sum("partition").expand_dims("partition"), responses)
    np.testing.assert_array_equal(one["inclusion"][0], one["accuracy"])
    np.testing.assert_array_equal(one["exclusion"][0], np.zeros(responses.sizes["voxel"]))
    np.testing.assert_array_equal(one["unique"][0], np.full(responses.sizes["voxel"], 100.0))


def test_order_of_partitions_and_chunks_never_change_a_value() -> None:
    responses, features, weights = simulate()
    parts = partial_sums(features, weights)
    plain = tuning(parts, responses)
    lazy = tuning(parts[::-1].chunk(voxel=2, partition=1), responses.chunk(trial=7))
    assert lazy["inclusion"].chunks is not None
    for name in ("inclusion", "exclusion_std", "shared", "unique_error"):
        np.testing.assert_allclose(lazy[name][::-1], plain[name], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(lazy["shared_argmax"], 3 - plain["shared_argmax"])
    np.testing.assert_allclose(lazy["unique_spread"], plain["unique_spread"], atol=1e-4)


def correlations(cc: list[float], inclusion: list[list[float]], exclusion: list[list[float]]) -> xr.Dataset:
    both = {"inclusion": np.array(inclusion).T, "exclusion": np.array(exclusion).T}
    data = {name: (("partition", "voxel"), values) for name, values in both.items()}
    errors = {name + "_std": (dims, np.full(values.shape, 0.01)) for name, (dims, values) in data.items()}
    return xr.Dataset({**data, **errors, "accuracy": ("voxel", cc), "accuracy_std": ("voxel", [0.02] * len(cc))})


def test_variance_shares_by_hand() -> None:
    shares = variance_shares(correlations([0.5, 0.0], [[0.5, 0.3, 0.4]] * 2, [[0.0, 0.4, 0.3]] * 2))
    np.testing.assert_allclose(shares["shared"][:, 0], [100, 36, 64])
    np.testing.assert_allclose(shares["unique"][:, 0], [100, 36, 64])
    assert shares["shared_argmax"].values.tolist() == [0, -1]
    # 100, 64, 36 scales to 1, 0.4375, 0: one half lies 0.5 / 0.5625 of the first of two steps
    np.testing.assert_allclose(shares["shared_spread"], [0.5 / 0.5625 / 2, np.nan])
    expected = 36 * np.sqrt((2 * 0.01 / 0.3) ** 2 + (2 * 0.02 / 0.5) ** 2)
    assert float(shares["shared_error"][1, 0]) == pytest.approx(expected)
    assert float(shares["unique_error"][0, 0]) == 0
    assert np.isnan(shares["shared_error"][:, 1]).all()


def test_errors_of_the_shares_are_those_of_a_simulation() -> None:
    """Ratios of squares of normal draws, a small error of either."""
    rng = np.random.default_rng(0)
    draws = 100 * ((0.3 + 0.003 * rng.standard_normal(200_000)) / (0.5 + 0.004 * rng.standard_normal(200_000))) ** 2
    data = correlations([0.5], [[0.3, 0.1]], [[0.3, 0.1]])
    data["inclusion_std"][:], data["accuracy_std"][:] = 0.003, 0.004
    assert float(variance_shares(data)["shared_error"][0, 0]) == pytest.approx(draws.std(), rel=0.01)


def test_roi_summary_weights_by_explained_variance_above_the_threshold() -> None:
    cc = xr.DataArray([0.5, 0.1, 0.05, 0.2, np.nan], dims="voxel")
    roi = xr.DataArray([1, 2, 1, 7, 1], dims="voxel")
    values = xr.Dataset({"shared": (("partition", "voxel"), [[10.0, 20, 1e9, 5, 7], [1.0, np.nan, 1e9, 6, 7]])})
    result = roi_summary(values, cc, roi, average="published")
    assert result["roi"].values.tolist() == ["V1", "hV4"]
    expected = (10 * 0.25 + 20 * 0.01) / 0.26
    np.testing.assert_allclose(result["shared"].sel(roi="V1"), [expected, 1.0])
    np.testing.assert_allclose(result["shared"].sel(roi="hV4"), [5, 6])
    assert result["voxels"].values.tolist() == [2, 1]
    lazy = roi_summary(values.chunk(voxel=2), cc, roi, average="published")
    xr.testing.assert_allclose(lazy.compute(), result)


def test_accuracy_of_a_perfect_partition_is_all_of_the_accuracy() -> None:
    responses, features, weights = simulate()
    parts = partial_sums(features, weights)
    parts[1:] = 0
    result = tuning(parts, responses)
    np.testing.assert_allclose(result["shared"][0], 100)
    assert (result["exclusion"][0] == 0).all()
    assert (result["unique_argmax"] == 0).all()
    assert (accuracy(parts[1], responses) == 0).all()
