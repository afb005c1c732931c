"""Noise ceilings, ROI groups and the table of a run."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from nsdflow.analysis import explainable_variance, noise_ceiling, roi_summary, summary_table
from nsdflow.analysis.rois import roi_masks, roi_names
from nsdflow.errors import SelectionError


def test_noise_ceiling_by_hand() -> None:
    ncsnr = xr.DataArray([0.0, 1.0, 2.0, np.nan], dims="voxel")
    np.testing.assert_allclose(explainable_variance(ncsnr), [0, 1 / 2, 4 / 5, np.nan])
    np.testing.assert_allclose(noise_ceiling(ncsnr, 3), np.sqrt([0, 3 / 4, 12 / 13, np.nan]))


def test_noise_ceiling_of_unequally_repeated_images_is_the_manuals_formula() -> None:
    ncsnr = xr.DataArray([0.3, 0.8], dims="voxel")
    three, two, one = 5, 3, 2
    expected = ncsnr**2 / (ncsnr**2 + (three / 3 + two / 2 + one) / (three + two + one))
    repeats = [3] * three + [2] * two + [1] * one
    xr.testing.assert_allclose(explainable_variance(ncsnr, repeats), expected.rename("explainable_variance"))


def test_noise_ceiling_is_the_correlation_with_the_noiseless_signal() -> None:
    """A simulation as oracle: responses = signal + noise, averaged over three trials."""
    rng = np.random.default_rng(0)
    signal = 0.7 * rng.standard_normal(200_000)
    response = signal + rng.standard_normal((3, signal.size)).mean(0)
    measured = np.corrcoef(signal, response)[0, 1]
    assert float(noise_ceiling(xr.DataArray(0.7), 3)) == pytest.approx(measured, abs=0.003)


@given(st.floats(0, 10), st.integers(1, 50))
def test_more_repeats_never_lower_the_ceiling(ncsnr: float, repeats: int) -> None:
    fewer, more = (float(noise_ceiling(xr.DataArray(ncsnr), k)) for k in (repeats, repeats + 1))
    assert 0 <= fewer <= more <= 1


def test_noise_ceiling_stays_lazy_and_refuses_images_never_seen() -> None:
    lazy = xr.DataArray(da.ones(6, chunks=3), dims="voxel")
    assert noise_ceiling(lazy).chunks == ((3, 3),)
    with pytest.raises(ValueError, match="1 or more"):
        noise_ceiling(lazy, [1, 0])


def test_roi_groups() -> None:
    roi = xr.DataArray([1, 2, 7, 0, 21, 3, -1], dims="voxel")
    assert roi_names(roi).values.tolist() == ["V1", "V1", "hV4", "other", "IPS", "V2", ""]
    assert list(roi_masks(roi)) == ["V1", "V2", "hV4", "IPS", "other"]
    assert roi_masks(roi)["V1"].values.tolist() == [True, True] + [False] * 5


def test_pure_noise_has_an_accuracy_of_zero_by_roi() -> None:
    """The published weighting selects by the accuracy that it averages."""
    noise = xr.DataArray(np.random.default_rng(0).normal(0, 0.05, 4000), dims="voxel", name="accuracy")
    noise = noise.assign_coords(roi=("voxel", np.arange(4000) % 7 + 1))
    for average in ("median", "mean"):
        summary = roi_summary(noise, average=average)
        assert abs(summary["accuracy"]).max() < 0.01
        assert int(summary["voxels"].sum()) == 4000
    assert (roi_summary(noise.to_dataset(), noise, noise["roi"])["accuracy"] < 0.01).all()
    assert (roi_summary(noise, noise, average="published")["accuracy"] > 0.06).all()
    with pytest.raises(SelectionError, match="give accuracy"):
        roi_summary(noise, average="published")
    with pytest.raises(SelectionError, match="unknown average"):
        roi_summary(noise, average="mode")  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="label of each voxel"):
        roi_summary(noise.drop_vars("roi"))


def test_roi_summary_of_lazy_values_is_lazy_and_leaves_nan_out() -> None:
    values = xr.Dataset({"x": ("voxel", [1.0, np.nan, 3.0, 8.0])}, {"roi": ("voxel", [1, 1, 3, 7])})
    lazy = roi_summary(values.chunk(voxel=2))
    assert lazy["x"].chunks is not None
    np.testing.assert_array_equal(lazy["x"], [1, 3, 8])
    assert lazy["roi"].values.tolist() == ["V1", "V2", "hV4"]


def test_summary_table() -> None:
    voxels = xr.Dataset(
        {"accuracy": ("voxel", [0.1, 0.3, np.nan, 0.2]), "noise_ceiling": ("voxel", [0.4, 0.4, 0.4, 0.8])}
    )
    without = xr.Dataset({"accuracy": ("voxel", [0.5])}, coords={"ncsnr": ("voxel", [1.0])})
    history = xr.Dataset({"train_loss": ("epoch", [1.0])})
    tree = xr.DataTree.from_dict({"subj02": without, "subj01": voxels, "history": history})
    second, first = summary_table(tree)
    assert (first.subject, first.voxels) == ("subj01", 4)
    assert (first.accuracy, first.noise_ceiling, first.ratio) == pytest.approx((0.2, 0.4, 0.5))
    assert second.noise_ceiling == pytest.approx(np.sqrt(0.5))
