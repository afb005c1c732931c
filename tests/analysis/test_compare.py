"""Comparisons of models: paired bootstrap over trials and voxels, common voxels, winners."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import common_voxels, compare_many, compare_predictions
from nsdflow.analysis.comparison.bootstrap import difference_interval
from nsdflow.errors import SelectionError


def predictions(trials: int = 400, voxels: int = 6) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """A weak and a good model of planted responses; in the first voxel they are alike."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((trials, voxels))
    good = signal + 0.2 * rng.standard_normal(signal.shape)
    weak = signal + 1.0 * rng.standard_normal(signal.shape)
    weak[:, 0] = 2 * good[:, 0] + 3
    responses = signal + rng.standard_normal(signal.shape)
    return tuple(xr.DataArray(values, dims=("trial", "voxel")) for values in (weak, good, responses))  # type: ignore[return-value]


def test_paired_bootstrap_is_a_loop_over_the_same_resamples() -> None:
    weak, good, responses = predictions()
    found = compare_predictions(weak, good, responses, resamples=50, seed=4)
    columns = list(zip(weak.T.values, good.T.values, responses.T.values, strict=True))
    expected = [np.corrcoef(g, y)[0, 1] - np.corrcoef(w, y)[0, 1] for w, g, y in columns]
    np.testing.assert_allclose(found["difference"], expected, atol=1e-6)
    assert (found["better"][1:] == 1).all()
    np.testing.assert_allclose(found["difference"][0], 0, atol=1e-9)
    # pairing cancels variation between resamples: identical models have no error
    assert float(found["difference_std"][0]) < 1e-6
    spread = float(np.sqrt((found["difference_std"][1:] ** 2).mean()))
    rng = np.random.default_rng(1)
    drawn = [rng.integers(0, 400, 400) for _ in range(200)]
    loop = [[np.corrcoef(g[d], y[d])[0, 1] - np.corrcoef(w[d], y[d])[0, 1] for d in drawn] for w, g, y in columns[1:]]
    assert spread == pytest.approx(np.sqrt(np.var(loop, axis=1).mean()), rel=0.2)
    lazy = compare_predictions(weak.chunk(voxel=2), good.chunk(voxel=2), responses.chunk(voxel=2), resamples=50, seed=4)
    assert lazy["difference"].chunks is not None
    xr.testing.assert_allclose(lazy.compute().isel(voxel=slice(1, None)), found.isel(voxel=slice(1, None)))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(60):
        low, high = difference_interval(rng.normal(0.01, 0.05, 200), resamples=200, seed=seed)
        inside += low <= 0.01 <= high
    assert 50 <= inside <= 60
    assert np.isnan(difference_interval(np.full(3, np.nan))).all()


def results(order: list[int], accuracy: list[float]) -> xr.DataTree:
    subject = xr.Dataset(
        {"accuracy": ("voxel", accuracy)},
        {"flat_index": ("voxel", order), "roi": ("voxel", [1 + k % 2 * 2 for k in order])},
    )
    return xr.DataTree.from_dict({"subj01": subject})


def test_runs_are_compared_on_the_voxels_that_they_share() -> None:
    one, two = results([4, 7, 9, 12], [0.1, 0.2, 0.3, 0.4]), results([12, 7, 5, 4], [0.5, 0.2, 0.9, 0.0])
    first, second = common_voxels([one, two])
    assert first["subj01"]["flat_index"].values.tolist() == [4, 7, 12]
    np.testing.assert_array_equal(second["subj01"]["accuracy"], [0.0, 0.2, 0.5])
    table = compare_many({"one": one, "two": two})
    everyone = table.sel(subject="all", roi="all")
    assert int(everyone["voxels"]) == 3
    np.testing.assert_allclose(everyone["best"], [100 / 3, 100 / 3])  # the tie is in none
    np.testing.assert_allclose(everyone["difference"], [0, 0], atol=1e-12)
    assert table.sel(subject="subj01", roi="V1")["voxels"] == 2
    with pytest.raises(SelectionError, match="no voxel of subj01 in common"):
        common_voxels([one, results([1], [0.0])])
    with pytest.raises(SelectionError, match="no subject in common"):
        common_voxels([one, xr.DataTree.from_dict({"subj02": one["subj01"].to_dataset()})])
