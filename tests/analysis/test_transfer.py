"""Transfer matrices, their asymmetry, and two models side by side."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import curve_fit

from nsdflow.analysis import (
    compare_models,
    compare_runs,
    transfer_asymmetry,
    transfer_matrices,
    transfer_matrix,
)
from nsdflow.errors import SelectionError

AREAS = ("V1", "V2", "V3", "hV4")


def subject(seed: int, voxels: int = 40) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    own = rng.uniform(0, 0.6, voxels)
    return xr.Dataset(
        {
            "accuracy": ("voxel", own),
            "transfer_accuracy": (("model", "voxel"), own - rng.uniform(0, 0.1, (4, voxels))),
        },
        coords={"roi": ("voxel", rng.integers(1, 8, voxels)), "model": list(AREAS), "ncsnr": ("voxel", own)},
    )


def loop(data: xr.Dataset, row: int, labels: tuple[int, ...]) -> float:
    losses = [
        float(data["transfer_accuracy"][row, v]) - float(data["accuracy"][v])
        for v in range(data.sizes["voxel"])
        if int(data["roi"][v]) in labels
    ]
    return float(np.mean(losses))


def test_matrix_is_the_mean_loss_by_area() -> None:
    data = subject(0)
    matrix = transfer_matrix(data["transfer_accuracy"], data["accuracy"], data["roi"])
    labels = {"V1": (1, 2), "V2": (3, 4), "V3": (5, 6), "hV4": (7,)}
    for row, model in enumerate(AREAS):
        for roi in AREAS:
            assert float(matrix.sel(model=model, roi=roi)) == pytest.approx(loop(data, row, labels[roi]))


def test_order_of_the_models_does_not_matter_and_missing_areas_are_nan() -> None:
    data = subject(0)
    data = data.isel(voxel=np.asarray(data["roi"]) != 7)
    usual = transfer_matrix(data["transfer_accuracy"], data["accuracy"], data["roi"])
    turned = data.isel(model=slice(None, None, -1))
    xr.testing.assert_allclose(usual, transfer_matrix(turned["transfer_accuracy"], turned["accuracy"], turned["roi"]))
    assert np.isnan(usual.sel(roi="hV4")).all()


def test_matrices_of_all_subjects_pool_their_voxels() -> None:
    subjects = {"subj01": subject(0, 40), "subj02": subject(1, 90)}
    matrices = transfer_matrices(subjects)
    assert matrices["subject"].values.tolist() == ["subj01", "subj02", "all"]
    counts = [np.isin(data["roi"], (1, 2)).sum() for data in subjects.values()]
    for model in AREAS:
        each = [float(matrices.sel(subject=name, model=model, roi="V1")) for name in subjects]
        together = float(matrices.sel(subject="all", model=model, roi="V1"))
        assert together == pytest.approx(np.average(each, weights=counts))
    assert transfer_asymmetry(matrices)["alpha"].dims == ("subject",)


matrices = hnp.arrays(
    np.float64, (4, 4), elements=st.floats(-0.1, 0.1, allow_subnormal=False).map(lambda x: round(x, 4))
)


@given(matrices)
def test_slopes_are_those_of_scipy(matrix: np.ndarray) -> None:
    result = transfer_asymmetry(xr.DataArray(matrix, dims=("model", "roi")))
    i, j = np.indices(matrix.shape)
    for name, side in (("up", i > j), ("down", i < j)):
        (slope,), covariance = curve_fit(lambda d, a: a * d, abs(i - j)[side].astype(float), matrix[side])
        assert float(result[name]) == pytest.approx(slope, abs=1e-8)
        assert float(result[name + "_error"]) == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-4, abs=1e-8)


@given(matrices)
def test_turning_the_hierarchy_round_turns_the_sign(matrix: np.ndarray) -> None:
    both = xr.DataArray(np.stack([matrix, matrix[::-1, ::-1]]), dims=("order", "model", "roi"))
    result = transfer_asymmetry(both)
    alpha, error = result["alpha"].values, result["alpha_error"].values
    np.testing.assert_allclose(alpha[0], -alpha[1], atol=1e-12)
    np.testing.assert_allclose(error[0], error[1], rtol=1e-9)


def test_a_planted_direction_is_found() -> None:
    steps = np.subtract.outer(np.arange(4), np.arange(4))
    upward = np.where(steps > 0, -0.01 * steps, 0.03 * steps)
    assert float(transfer_asymmetry(xr.DataArray(upward, dims=("model", "roi")))["alpha"]) == pytest.approx(0.5)
    even = transfer_asymmetry(xr.DataArray(-0.01 * abs(steps), dims=("model", "roi")))
    assert float(even["alpha"]) == pytest.approx(0)
    assert float(even["alpha_error"]) == pytest.approx(0, abs=1e-9)


def test_two_areas_have_no_error() -> None:
    result = transfer_asymmetry(xr.DataArray([[0.0, -0.2], [-0.1, 0.0]], dims=("model", "roi")))
    assert float(result["alpha"]) == pytest.approx(1 / 3)
    assert np.isnan(result["alpha_error"])


def test_compare_models() -> None:
    first = xr.DataArray([0.1, 0.2, 0.3, 0.4], dims="voxel", coords={"roi": ("voxel", [1, 1, 2, 7])})
    result = compare_models(first, first + np.array([0.1, -0.05, 0.0, 0.02]))
    assert result["roi"].values.tolist() == ["V1", "hV4", "all"]
    np.testing.assert_array_equal(result["voxels"], [3, 1, 4])
    np.testing.assert_allclose(result["second_better"], [100 / 3, 100, 50])
    np.testing.assert_allclose(result["first_better"], [100 / 3, 0, 25])
    np.testing.assert_allclose(result["mean_difference"], [0.05 / 3, 0.02, 0.0175])
    np.testing.assert_allclose(result["median_difference"], [0, 0.02, 0.01], atol=1e-12)
    with pytest.raises(SelectionError, match="different voxels"):
        compare_models(first, first[:3])


def test_compare_runs_by_subject_and_over_all() -> None:
    def run(*accuracies: list[float]) -> xr.DataTree:
        areas = ([1, 2, 7], [1, 7])
        return xr.DataTree.from_dict(
            {
                f"subj0{number}": xr.Dataset({"accuracy": ("voxel", values)}, {"roi": ("voxel", roi)})
                for number, (values, roi) in enumerate(zip(accuracies, areas, strict=True), start=1)
            }
        )

    result = compare_runs(run([0.1, 0.2, 0.3], [0.5, 0.1]), run([0.2, 0.1, 0.4], [0.6, 0.0]))
    assert result["subject"].values.tolist() == ["subj01", "subj02", "all"]
    assert result["voxels"].sel(subject="all", roi="V1") == 3
    np.testing.assert_allclose(result["second_better"].sel(roi="V1"), [50, 100, 200 / 3])
    np.testing.assert_allclose(result["second_better"].sel(roi="all"), [200 / 3, 50, 60])
    np.testing.assert_allclose(result["mean_difference"].sel(subject="all"), [0.1 / 3, 0, 0.02], atol=1e-12)
    with pytest.raises(SelectionError, match="no subject in common"):
        compare_runs(run([0.1, 0.2, 0.3], [0.5, 0.1]), xr.DataTree())
