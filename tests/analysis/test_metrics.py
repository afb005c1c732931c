"""Accuracy and its bootstrap against numpy's corrcoef in plain loops."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import explained_variance_score, r2_score

from nsdflow.analysis import (
    METRICS,
    accuracy,
    evaluate,
    noise_ceiling,
    normalised_accuracy,
    shuffle_images,
    uncertainty,
)
from nsdflow.analysis.moments import resample_counts
from nsdflow.errors import SelectionError
from nsdflow.labels import VARIABLE_LABELS
from nsdflow.nsd.voxels.reserved_names import RESERVED


def simulate(trials: int = 90, voxels: int = 7, seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    """Predictions by image and responses by trial, every image shown three times in a mixed order."""
    rng = np.random.default_rng(seed)
    images = trials // 3
    nsd_id = rng.permutation(1000)[:images]
    predictions = rng.standard_normal((images, voxels)).astype(np.float32)
    shown = rng.permutation(np.repeat(np.arange(images), 3))
    responses = predictions[shown] * np.linspace(0, 1, voxels, dtype=np.float32) + rng.standard_normal(
        (trials, voxels)
    ).astype(np.float32)
    flat_index = ("voxel", np.arange(voxels) * 11)
    by_image = xr.DataArray(
        predictions, dims=("image", "voxel"), coords={"nsd_id": ("image", nsd_id), "flat_index": flat_index}
    )
    by_trial = xr.DataArray(
        responses, dims=("trial", "voxel"), coords={"nsd_id": ("trial", nsd_id[shown]), "flat_index": flat_index}
    )
    return by_image, by_trial


def spread_out(predictions: xr.DataArray, responses: xr.DataArray) -> np.ndarray:
    """Predictions by trial, looked up one at a time."""
    row = {int(image): k for k, image in enumerate(predictions["nsd_id"].values)}
    return np.stack([predictions.values[row[int(image)]] for image in responses["nsd_id"].values])


def test_accuracy_is_corrcoef_voxel_by_voxel() -> None:
    predictions, responses = simulate()
    by_trial = spread_out(predictions, responses)
    expected = [np.corrcoef(p, y)[0, 1] for p, y in zip(by_trial.T, responses.values.T, strict=True)]
    result = accuracy(predictions, responses)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    np.testing.assert_array_equal(result["flat_index"], responses["flat_index"])
    np.testing.assert_allclose(
        accuracy(xr.DataArray(by_trial, dims=("trial", "voxel")), responses), expected, atol=1e-12
    )


def test_undefined_correlations_are_zero() -> None:
    predictions, responses = simulate()
    predictions[:, 0] = np.float32(0.1)  # a constant whose mean is not exact in float32
    responses[:, 1] = np.float32(1 / 3)
    responses[4, 2] = np.nan
    assert (accuracy(predictions, responses)[:3] == 0).all()
    assert (uncertainty(predictions, responses).to_array()[:, :3] == 0).all()


def test_bootstrap_is_a_loop_over_resampled_trials() -> None:
    """Counts converted to indices, and one np.corrcoef per resample and voxel."""
    predictions, responses = simulate()
    by_trial = spread_out(predictions, responses)
    drawn = [np.repeat(np.arange(90), row.astype(int)) for row in resample_counts(90, 64, seed=3)]
    looped = np.array(
        [
            [np.corrcoef(by_trial[rows, v], responses.values[rows, v])[0, 1] for v in range(responses.sizes["voxel"])]
            for rows in drawn
        ]
    )
    result = uncertainty(predictions, responses, resamples=64, seed=3)
    np.testing.assert_allclose(result["accuracy_mean"], looped.mean(0), atol=2e-6)
    np.testing.assert_allclose(result["accuracy_std"], looped.std(0), atol=2e-6)


def test_bootstrap_mean_tends_to_the_plain_correlation_and_std_to_theory() -> None:
    predictions, responses = simulate(trials=3000)
    plain = accuracy(predictions, responses)
    result = uncertainty(predictions, responses, resamples=1000)
    np.testing.assert_allclose(result["accuracy_mean"], plain, atol=3e-3)
    np.testing.assert_allclose(result["accuracy_std"], (1 - plain**2) / np.sqrt(3000), rtol=0.15)


def test_resamples_draw_every_trial_equally_often() -> None:
    counts = resample_counts(50, 4000, seed=0)
    assert (counts.sum(1) == 50).all()
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.1)
    np.testing.assert_allclose(counts.var(0), 1 - 1 / 50, atol=0.15)


@settings(max_examples=25)
@given(
    voxel_chunk=st.integers(1, 7),
    trial_chunk=st.integers(1, 90),
    scale=st.floats(0.01, 100),
    shift=st.floats(-10, 10),
    seed=st.integers(0, 2**31),
)
def test_chunks_scale_and_shift_never_change_a_value(
    voxel_chunk: int, trial_chunk: int, scale: float, shift: float, seed: int
) -> None:
    predictions, responses = simulate(seed=seed)
    lazy = responses.copy(data=da.from_array(responses.values, chunks=(trial_chunk, voxel_chunk)))
    result = uncertainty(predictions * scale + shift, lazy)
    assert result["accuracy_std"].chunks is not None
    xr.testing.assert_allclose(result.compute(), uncertainty(predictions, responses), atol=1e-4)
    np.testing.assert_allclose(
        accuracy(predictions * scale + shift, lazy).compute(), accuracy(predictions, responses), atol=1e-5
    )


def test_what_does_not_belong_together_is_refused() -> None:
    predictions, responses = simulate()
    with pytest.raises(SelectionError, match="have no prediction, first nsd_id"):
        accuracy(predictions[3:], responses)
    with pytest.raises(SelectionError, match="7 voxels and predictions 5"):
        accuracy(predictions[:, :5], responses)
    with pytest.raises(SelectionError, match="flat_index"):
        accuracy(predictions[:, ::-1], responses)


def test_metrics_against_scipy_and_scikit_learn() -> None:
    predictions, responses = simulate()
    predictions = 0.5 * predictions + 0.1
    x, y = spread_out(predictions, responses).T, responses.values.T
    oracles = {
        "correlation": [pearsonr(p, q)[0] for p, q in zip(x, y, strict=True)],
        "rank_correlation": [spearmanr(p, q)[0] for p, q in zip(x, y, strict=True)],
        "r2": [r2_score(q, p) for p, q in zip(x, y, strict=True)],
        "explained_variance": [explained_variance_score(q, p) for p, q in zip(x, y, strict=True)],
    }
    assert oracles.keys() == METRICS.keys()
    for name, expected in oracles.items():
        np.testing.assert_allclose(accuracy(predictions, responses, metric=name), expected, atol=1e-6)
    with pytest.raises(SelectionError, match="unknown metric 'mse'"):
        accuracy(predictions, responses, metric="mse")


@pytest.mark.parametrize("metric", METRICS)
def test_bootstrap_of_every_metric_is_its_value_on_the_resamples(metric: str) -> None:
    predictions, responses = simulate(30, 4)
    x = xr.DataArray(spread_out(predictions, responses).astype(float), dims=("trial", "voxel"))
    y = xr.DataArray(responses.values.astype(float), dims=("trial", "voxel"))
    counts = resample_counts(30, 8, 3).astype(int)
    drawn = [np.repeat(np.arange(30), row) for row in counts]
    values = np.stack([accuracy(x[rows], y[rows], metric=metric) for rows in drawn])
    spread = uncertainty(x, y, metric=metric, resamples=8, seed=3)
    np.testing.assert_allclose(spread["accuracy_mean"], values.mean(0), atol=1e-6)
    np.testing.assert_allclose(spread["accuracy_std"], values.std(0), atol=1e-6)


def test_averaged_images_are_paired_by_image_and_have_the_ceiling_of_their_repetitions() -> None:
    """A perfect model of planted signal reaches the ceiling of averages, by image on both sides."""
    rng = np.random.default_rng(1)
    images, snr = 3000, 0.7
    signal = snr * rng.standard_normal((images, 3))
    shown = rng.permutation(np.repeat(np.arange(images), rng.integers(1, 4, images)))
    trials = xr.DataArray(
        signal[shown] + rng.standard_normal((shown.size, 3)),
        dims=("trial", "voxel"),
        coords={"nsd_id": ("trial", 10 * shown), "ncsnr": ("voxel", np.full(3, snr))},
    )
    averaged = trials.nsd.mean_over_repetitions()
    order = rng.permutation(images)
    predictions = xr.DataArray(
        signal[order], dims=("image", "voxel"), coords={"nsd_id": ("image", 10 * order)}, name="p"
    )
    reached = accuracy(predictions, averaged)
    np.testing.assert_allclose(reached, np.corrcoef(signal.T, averaged.T)[3:, :3].diagonal(), atol=1e-12)
    np.testing.assert_allclose(reached, noise_ceiling(averaged), atol=0.03)
    np.testing.assert_allclose(accuracy(predictions, trials), noise_ceiling(trials), atol=0.03)
    assert (noise_ceiling(averaged) > noise_ceiling(trials) + 0.05).all()
    np.testing.assert_allclose(normalised_accuracy(reached, noise_ceiling(averaged)), 1, atol=0.04)
    np.testing.assert_allclose(normalised_accuracy(reached), normalised_accuracy(reached, noise_ceiling(averaged)))
    scores = evaluate(predictions, averaged, resamples=0)
    np.testing.assert_allclose(scores["noise_ceiling"], noise_ceiling(averaged), rtol=1e-6)
    assert scores["noise_ceiling"].attrs["long_name"] == "noise ceiling of averaged trials (correlation)"
    assert scores.attrs == {"validation_trials": shown.size, "validation_images": images}
    with pytest.raises(SelectionError, match="repetitions"):
        noise_ceiling(averaged.drop_vars("repetitions"))


def test_what_cannot_be_paired_is_refused() -> None:
    predictions, responses = simulate()
    by_trial = xr.DataArray(spread_out(predictions, responses), dims=("trial", "voxel"), coords=responses.coords)
    with pytest.raises(SelectionError, match="different images in"):
        accuracy(by_trial, responses.isel(trial=slice(None, None, -1)))
    with pytest.raises(SelectionError, match="predictions by trial"):
        accuracy(by_trial, predictions)
    with pytest.raises(SelectionError, match="lack the coordinate nsd_id"):
        accuracy(predictions.drop_vars("nsd_id"), responses)
    with pytest.raises(SelectionError, match="flat_index"):
        accuracy(predictions, responses.assign_coords(flat_index=("voxel", np.arange(7))))


def test_the_control_pairs_every_image_with_another_one() -> None:
    predictions, responses = simulate()
    shuffled = shuffle_images(predictions, seed=2)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(predictions, axis=0))
    assert not (shuffled == predictions).all("voxel").any()
    scores = evaluate(predictions, responses.assign_coords(ncsnr=("voxel", np.ones(7))), resamples=4)
    assert set(scores) == {"accuracy", "accuracy_std", "accuracy_shuffled", "noise_ceiling"}
    assert abs(scores["accuracy_shuffled"]).mean() < 0.25 < scores["accuracy"][3:].min()
    assert scores.attrs == {"validation_trials": 90, "validation_images": 30}


def test_a_share_of_variance_has_the_explainable_variance_as_its_ceiling() -> None:
    """A model that knows the planted signal explains that share of the variance of single trials."""
    rng = np.random.default_rng(5)
    signal = np.repeat(rng.standard_normal((40_000, 1)), 3, axis=1)
    snr = np.array([0.5, 1.0, 2.0])
    noisy = signal + rng.standard_normal(signal.shape) / snr
    known = xr.DataArray(signal, dims=("trial", "voxel"))
    responses = xr.DataArray(noisy, dims=("trial", "voxel"), coords={"ncsnr": ("voxel", snr)})
    for metric in METRICS:
        if metric != "rank_correlation":
            reached = accuracy(known, responses, metric=metric)
            np.testing.assert_allclose(normalised_accuracy(reached), 1, atol=0.05, err_msg=metric)


def test_every_metric_has_a_label() -> None:
    variables = {metric.variable for metric in METRICS.values()}
    assert variables <= set(VARIABLE_LABELS), "add its long name to nsdflow.labels"
    assert set(VARIABLE_LABELS) <= RESERVED, "an atlas of this name would be taken for it"


def test_a_metric_marked_as_stored_is_in_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "r2", replace(METRICS["r2"], stored=True))  # type: ignore[misc]
    assert "r2" in evaluate(*simulate(), resamples=0)
