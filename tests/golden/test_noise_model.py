"""The noise model against the published cells: correlations, gains, the descent, and the synthetic sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import noise_model, synthetic_responses
from nsdflow.analysis.noise.synthetic import add_noise

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def published(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("noise_model")


def numbers(published: Arrays) -> list[str]:
    return [name.removeprefix("order_") for name in published if name.startswith("order_")]


def model_of(published: Arrays, s: str) -> xr.Dataset:
    predictions = published[f"predictions_{s}"].astype(np.float64)
    by_image = xr.DataArray(
        predictions, dims=("image", "voxel"), coords={"nsd_id": ("image", np.arange(len(predictions)))}
    )
    by_trial = xr.DataArray(
        published[f"responses_{s}"].astype(np.float64),
        dims=("trial", "voxel"),
        coords={"nsd_id": ("trial", published[f"order_{s}"])},
    )
    return noise_model(by_image, by_trial)


def target_of(published: Arrays, s: str) -> np.ndarray:
    b = published[f"b_{s}"]
    target: np.ndarray = published[f"C_{s}"] - b[:, None] * published[f"A_{s}"] * b
    return target


def test_gains_and_the_nearest_factor(published: Arrays) -> None:
    for s in numbers(published):
        model, target = model_of(published, s), target_of(published, s)
        np.testing.assert_allclose(model["gain"], published[f"b_{s}"], rtol=1e-5, atol=1e-7)
        assert float(model["target_norm"]) == pytest.approx(np.linalg.norm(target), rel=1e-5)
        factor = model["mixing"].values
        squares = ((factor @ factor.T - target) ** 2).sum()
        assert float(model["residual"]) ** 2 == pytest.approx(squares, rel=1e-3)
        # the published descent ends above the exact minimum, even without its stop
        assert squares <= published[f"loss_converged_{s}"] * (1 + 1e-9)
        assert squares <= published[f"loss_published_{s}"]


def test_the_published_descent_is_on_our_target(published: Arrays) -> None:
    """Gradient descent on the sum of squares of R R' - T (a quarter of its gradient), from the published start."""
    for s in numbers(published):
        target, factor = target_of(published, s), published[f"R_initial_{s}"].copy()
        losses = []
        for _ in range(int(published["n_steps"])):
            residual = factor @ factor.T - target
            losses.append((residual**2).sum())
            factor -= float(published["step_size"]) * residual @ factor
        np.testing.assert_allclose(losses, published[f"loss_{s}"], rtol=1e-9)
        np.testing.assert_allclose(factor, published[f"R_{s}"], atol=1e-9)


def test_synthetic_sets_are_the_published_ones(published: Arrays) -> None:
    order, repeats = published["corr_noise_order"], int(published["corr_noise_repeats"])
    np.testing.assert_array_equal(order, np.repeat(published["no_noise_order"], repeats))
    for s in numbers(published):
        predictions = published[f"predictions_{s}"].astype(np.float64)
        z = (predictions - predictions.mean(0)) / predictions.std(0)
        np.testing.assert_allclose(z, published[f"no_noise_{s}"], atol=1e-5)
        signal = published[f"b_{s}"] * published[f"no_noise_{s}"][order]
        noisy = add_noise(signal, published[f"R_converged_{s}"], published[f"noise_{s}"])
        np.testing.assert_allclose(noisy, published[f"corr_noise_{s}"], atol=1e-6)


def test_without_noise_responses_are_the_gain_times_the_signal(published: Arrays) -> None:
    for s in numbers(published):
        model = model_of(published, s)
        z = xr.DataArray(
            published[f"no_noise_{s}"],
            dims=("image", "voxel"),
            coords={"nsd_id": ("image", published["no_noise_order"])},
        )
        quiet = synthetic_responses(model, z, repeats=1, noise=False).isel(repetition=0)
        np.testing.assert_allclose(quiet, published[f"b_{s}"] * z, atol=1e-5)
