"""Signal, noise and reliability estimated from repetitions recover the planted values."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import estimate_ncsnr, explainable_variance, noise_ceiling, reliability
from nsdflow.errors import SelectionError

SNR = np.array([0.0, 0.3, 0.8, 1.5])


def planted(images: int = 4000, most: int = 3, least: int = 1, seed: int = 0) -> xr.DataArray:
    """Trials of images seen unequally often: signal of a known ratio to noise of variance one."""
    rng = np.random.default_rng(seed)
    shown = rng.permutation(np.repeat(np.arange(images), rng.integers(least, most + 1, images)))
    signal = SNR * rng.standard_normal((images, SNR.size))
    values = signal[shown] + rng.standard_normal((shown.size, SNR.size))
    return xr.DataArray(values, dims=("trial", "voxel"), coords={"nsd_id": ("trial", shown * 7)}, name="responses")


def test_planted_ratios_are_found_with_unequal_repetitions() -> None:
    np.testing.assert_allclose(estimate_ncsnr(planted())[1:], SNR[1:], atol=0.06)
    assert float(estimate_ncsnr(planted())[0]) < 0.2


def test_the_formula_in_a_plain_loop() -> None:
    trials = planted(40)
    ids = trials["nsd_id"].values
    for column, found in enumerate(estimate_ncsnr(trials).values):
        values = trials.values[:, column]
        groups = [values[ids == number] for number in np.unique(ids)]
        noise = sum((g.size - 1) * np.var(g, ddof=1) for g in groups if g.size > 1) / sum(g.size - 1 for g in groups)
        total = np.var(values, ddof=1)
        assert found == pytest.approx(np.sqrt(max(0, total - noise)) / np.sqrt(noise))


def test_unit_total_variance_is_the_recipe_of_nsd() -> None:
    """Three trials of each image, z-scored with ddof 1: signal = 1 - mean of the variances over images."""
    trials = planted(60, most=3, least=3)
    z = (trials - trials.mean("trial")) / trials.std("trial", ddof=1)
    noise = z.groupby("nsd_id").var(ddof=1).mean("nsd_id")
    expected = np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(noise)
    np.testing.assert_allclose(estimate_ncsnr(z, total="unit"), expected)


def test_images_with_nan_are_left_out_and_lazy_stays_lazy() -> None:
    trials = planted(50)
    damaged = trials.copy()
    image = trials["nsd_id"].values == trials["nsd_id"].values[0]
    damaged[0, 2] = np.nan
    without = trials.isel(trial=~image)
    found = estimate_ncsnr(damaged)
    assert float(found[2]) == pytest.approx(float(estimate_ncsnr(without)[2]))
    np.testing.assert_allclose(found[:2], estimate_ncsnr(trials)[:2])
    lazy = trials.chunk(trial=20, voxel=2)
    assert isinstance(estimate_ncsnr(lazy).data, da.Array)
    np.testing.assert_allclose(estimate_ncsnr(lazy), estimate_ncsnr(trials))
    np.testing.assert_allclose(reliability(lazy), reliability(trials))


@pytest.mark.parametrize(("least", "most"), [(2, 2), (3, 3), (1, 4)])
def test_reliability_is_the_explainable_variance_of_the_averages(least: int, most: int) -> None:
    trials = planted(6000, most, least)
    counts = np.unique(trials["nsd_id"], return_counts=True)[1]
    expected = explainable_variance(xr.DataArray(SNR, dims="voxel"), counts[counts > 1])
    np.testing.assert_allclose(reliability(trials, splits=10), expected, atol=0.07)
    # the ceiling of a correlation is its root; halves of one trial each give the single-trial share
    if most == 3:
        single = reliability(trials, splits=10, corrected=False)
        np.testing.assert_allclose(single, noise_ceiling(xr.DataArray(SNR, dims="voxel")) ** 2, atol=0.04)


def test_without_repetitions_there_is_no_estimate() -> None:
    trials = planted(30)
    once = trials.isel(trial=np.unique(trials["nsd_id"], return_index=True)[1])
    for estimate in (estimate_ncsnr, reliability):
        with pytest.raises(SelectionError, match="no image was shown twice"):
            estimate(once)
        with pytest.raises(SelectionError, match="nsd_id"):
            estimate(trials.drop_vars("nsd_id"))
    with pytest.raises(SelectionError, match="unknown total variance"):
        estimate_ncsnr(trials, total="one")  # type: ignore[arg-type]
