"""Gaussian fits of pooling fields against planted ones and scipy's least squares."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from nsdflow.analysis import pooling_field_fits, pooling_fields
from nsdflow.analysis.fields.gaussians import gaussian


def field(parameters: np.ndarray, size: int = 21) -> xr.DataArray:
    return xr.DataArray(gaussian(np.atleast_2d(parameters), size, size), dims=("voxel", "y", "x"))


place = st.floats(-0.35, 0.35)
log_size = st.floats(np.log(0.06), np.log(0.25))


@settings(max_examples=40)
@given(place, place, log_size, log_size, st.floats(-np.pi / 4, 0.78), st.floats(-5, 5), st.floats(0, 1))
def test_planted_gaussians_are_found(
    x: float, y: float, log_x: float, log_y: float, angle: float, log_amplitude: float, offset: float
) -> None:
    planted = np.array([log_amplitude, x, y, log_x, log_y, angle, offset])
    fits = pooling_field_fits(field(planted))
    assert fits["fitted"].all()
    found = fits["parameters"].values[0]
    np.testing.assert_allclose(found[1:3], planted[1:3], atol=1e-5)
    assert float(fits["eccentricity"][0]) == pytest.approx(np.hypot(x, y), abs=1e-5)
    assert float(fits["size"][0]) == pytest.approx(np.exp((log_x + log_y) / 2), rel=1e-4)
    np.testing.assert_allclose(gaussian(found, 21, 21), gaussian(planted, 21, 21), atol=1e-6 * np.exp(log_amplitude))


def test_y_is_up_and_orientation_is_relative_to_the_centre_of_gaze() -> None:
    """A bar above the centre: upright it points at the centre of gaze, lying it is at a right angle."""
    image = np.zeros((1, 25, 25))
    image[0, 2:11, 12] = 1  # above the centre, upright
    upright = pooling_field_fits(xr.DataArray(image, dims=("voxel", "y", "x")))
    assert float(upright["parameters"].sel(parameter="y")[0]) == pytest.approx(0.25, abs=0.01)
    assert float(upright["polar_angle"][0]) == pytest.approx(np.pi / 2, abs=0.01)
    assert float(upright["orientation"][0]) == pytest.approx(0, abs=0.01)
    lying = np.zeros((1, 25, 25))
    lying[0, 6, 8:17] = 1
    fits = pooling_field_fits(xr.DataArray(lying, dims=("voxel", "y", "x")))
    assert abs(float(fits["orientation"][0])) == pytest.approx(np.pi / 2, abs=0.01)


def test_no_other_start_of_scipy_fits_better() -> None:
    rng = np.random.default_rng(0)
    planted = np.array([-4.0, 0.1, -0.2, -2.2, -1.6, 0.4, 1e-4])
    noisy = field(planted) * np.exp(0.3 * rng.standard_normal((5, 21, 21)))
    fits = pooling_field_fits(noisy)
    for image, residual in zip(noisy.values, fits["residual"].values, strict=True):
        theirs = [
            least_squares(
                lambda p, image=image: 1e3 * (gaussian(p, 21, 21) - image).ravel(), start, xtol=1e-12, ftol=1e-12
            ).cost
            for start in (planted, [-4.0, 0, 0, -1.5, -2.0, 0, 0.0])
        ]
        assert residual <= np.sqrt(2 * min(theirs)) / 1e3 * (1 + 1e-9)


def test_fits_that_fail_are_marked_and_not_dropped() -> None:
    good = field(np.array([0.0, 0.1, 0.1, -2.0, -2.0, 0.0, 0.0]))[0]
    broken = good.copy()
    broken[3, 3] = np.nan
    slope = good * 0 + np.linspace(0, 1, 21)  # no bump: the best Gaussian is wider than the image
    fits = pooling_field_fits(xr.concat([good, good * 0 + 0.2, broken, slope, good], "voxel"))
    assert fits["fitted"].values.tolist() == [True, False, False, False, True]
    assert np.isnan(fits["parameters"][1:3]).all()
    assert np.isnan(fits["orientation"][1:3]).all()
    xr.testing.assert_equal(fits.isel(voxel=0), fits.isel(voxel=4))


def test_lazy_and_grouped_alike() -> None:
    planted = np.array([[0.0, x, -x, -2.0, -1.8, 0.2, 0.1] for x in np.linspace(-0.3, 0.2, 7)])
    fields = field(planted).assign_coords(roi=("voxel", np.arange(7)))
    lazy = pooling_field_fits(fields.chunk(voxel=2, x=5))
    assert lazy["parameters"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), pooling_field_fits(fields))
    np.testing.assert_array_equal(lazy["roi"], np.arange(7))


def test_pooling_fields_are_softmax() -> None:
    logits = xr.DataArray(np.random.default_rng(0).normal(size=(3, 4, 5)) * 300, dims=("voxel", "y", "x"))
    fields = pooling_fields(logits.rename(y="y_1", x="x_1"))
    assert fields.dims == ("voxel", "y", "x")
    np.testing.assert_allclose(fields.sum(("y", "x")), 1)
    np.testing.assert_allclose(np.log(fields[0, 0, 0] / fields[0, 1, 2]), logits[0, 0, 0] - logits[0, 1, 2])
    uniform = pooling_field_fits(pooling_fields(logits * 0 + 1))
    assert not uniform["fitted"].any()
