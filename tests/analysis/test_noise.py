"""The noise model against gradient descent, and properties of synthetic responses."""

from __future__ import annotations

import dask.array as da
import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdflow.analysis import accuracy, noise_model, synthetic_responses
from nsdflow.analysis.noise.synthetic import nearest_factor


def simulate(images: int = 300, voxels: int = 24, seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    """Predictions, and responses whose noise is shared between neighbours."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((images, 6)) @ rng.standard_normal((6, voxels))
    signal = (signal - signal.mean(0)) / signal.std(0)
    nsd_id = rng.permutation(70_000)[:images]
    shown = np.repeat(np.arange(images), 3)
    noise = rng.standard_normal((shown.size, voxels + 1))
    responses = np.linspace(0.3, 0.8, voxels) * signal[shown] + noise[:, :-1] + noise[:, 1:]
    return (
        xr.DataArray(signal, dims=("image", "voxel"), coords={"nsd_id": ("image", nsd_id)}),
        xr.DataArray(responses, dims=("trial", "voxel"), coords={"nsd_id": ("trial", nsd_id[shown])}),
    )


def correlations(predictions: xr.DataArray, responses: xr.DataArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """C, A and P by np.corrcoef."""
    row = {int(image): k for k, image in enumerate(predictions["nsd_id"].values)}
    by_trial = predictions.values[[row[int(image)] for image in responses["nsd_id"].values]]
    voxels = responses.sizes["voxel"]
    joint = np.corrcoef(responses.values.T, by_trial.T)
    return joint[:voxels, :voxels], joint[voxels:, voxels:], joint[:voxels, voxels:]


def test_gain_and_target_by_their_formulas() -> None:
    predictions, responses = simulate()
    c, a, p = correlations(predictions, responses)
    gain = np.array([sum(p[v] * a[v]) / sum(a[v] ** 2) for v in range(len(a))])
    target = c - np.diag(gain) @ a @ np.diag(gain)
    model = noise_model(predictions, responses)
    np.testing.assert_allclose(model["gain"], gain, atol=1e-10)
    np.testing.assert_allclose(model["target_norm"], np.linalg.norm(target), rtol=1e-10)
    mixed = model["mixing"].values @ model["mixing"].values.T
    np.testing.assert_allclose(np.linalg.norm(mixed - target), model["residual"], atol=1e-10)
    assert float(model["residual"]) < 0.05 * float(model["target_norm"])


def descend(target: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """The published way: gradient descent on the squared distance of R R' from the target."""
    factor = rng.standard_normal(target.shape) / len(target)
    rate = 0.05 / np.abs(np.linalg.eigvalsh(target)).max()
    for _ in range(steps):
        factor -= rate * 4 * (factor @ factor.T - target) @ factor
    return factor


@settings(max_examples=4)
@given(st.integers(0, 2**31))
def test_no_farther_from_the_target_than_a_long_descent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((16, 16))
    target = (half + half.T) / 2 + np.eye(16)  # eigenvalues of both signs
    factor, residual = nearest_factor(target)
    ours = factor @ factor.T
    assert np.linalg.eigvalsh(ours).min() > -1e-10
    np.testing.assert_allclose(np.linalg.norm(ours - target), residual)
    descended = descend(target, 20_000, rng)
    theirs = np.linalg.norm(descended @ descended.T - target)
    assert residual <= theirs * (1 + 1e-12)
    assert theirs < residual * 1.01  # the descent converged, so the comparison is meaningful


def test_nearest_factor_is_exact_where_the_target_is_semi_definite() -> None:
    half = np.random.default_rng(0).standard_normal((20, 7))
    factor, residual = nearest_factor(half @ half.T)
    assert factor.shape == (20, 7)
    np.testing.assert_allclose(factor @ factor.T, half @ half.T, atol=1e-10)
    assert residual < 1e-10


def test_synthetic_responses_have_the_correlations_of_the_data() -> None:
    predictions, responses = simulate(images=4000)
    model = noise_model(predictions, responses)
    synthetic = synthetic_responses(model, predictions, repeats=3, seed=1)
    assert synthetic.dims == ("image", "repetition", "voxel")
    assert synthetic.dtype == np.float32
    trials = synthetic.stack(trial=("image", "repetition")).drop_vars(["trial", "image", "repetition"])
    measured = np.corrcoef(responses.values.T)
    np.testing.assert_allclose(np.corrcoef(trials.values), measured, atol=0.06)
    np.testing.assert_allclose(accuracy(predictions, trials), accuracy(predictions, responses), atol=0.03)


def test_no_noise_is_the_signal() -> None:
    predictions, responses = simulate()
    model = noise_model(predictions, responses)
    synthetic = synthetic_responses(model, predictions, repeats=1, noise=False)
    np.testing.assert_allclose(synthetic[:, 0], predictions * model["gain"], atol=1e-6)


def test_chunks_and_order_of_images_never_change_the_noise() -> None:
    predictions, responses = simulate(images=50)
    model = noise_model(predictions, responses)
    whole = synthetic_responses(model, predictions, seed=4)
    lazy = synthetic_responses(model, predictions.copy(data=da.from_array(predictions.values, chunks=(7, 5))), seed=4)
    assert lazy.chunks is not None
    np.testing.assert_allclose(lazy.compute(), whole, atol=1e-5)
    turned = synthetic_responses(model, predictions[::-1], seed=4)[::-1]
    np.testing.assert_allclose(turned, whole, atol=1e-5)
    other = synthetic_responses(model, predictions, seed=5)
    assert abs(other - whole).max() > 0.5
    # the repetitions of an image differ
    assert abs(whole[:, 0] - whole[:, 1]).max() > 0.5


def test_silent_voxels_have_no_gain_and_no_noise() -> None:
    predictions, responses = simulate()
    predictions[:, 2] = 0.1
    responses[:, 3] = 0.1
    model = noise_model(predictions, responses)
    assert float(model["gain"][2]) == 0
    assert float(model["gain"][3]) == 0
    np.testing.assert_allclose(model["mixing"][3], 0, atol=1e-6)
