"""GNet8r against GNet8j, transfer matrices and asymmetries as the published cells compute them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import advantage, compare_runs, transfer_asymmetry, transfer_matrices

Arrays = dict[str, np.ndarray]
AREAS = ("V1", "V2", "V3", "hV4")


@pytest.fixture(scope="module")
def published(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("comparison")


def subjects_of(published: Arrays) -> list[str]:
    return sorted(
        (name.removeprefix("roi_") for name in published if name.startswith("roi_") and name[4:].isdigit()), key=int
    )


def run(published: Arrays, model: str) -> xr.DataTree:
    return xr.DataTree.from_dict(
        {
            f"subj0{s}": xr.Dataset(
                {"accuracy": ("voxel", published[f"{model}_cc_{s}"])},
                {"roi": ("voxel", published[f"roi_{s}"].astype(int))},
            )
            for s in subjects_of(published)
        }
    )


def everyone(published: Arrays, name: str) -> xr.DataArray:
    return xr.DataArray(np.concatenate([published[f"{name}_{s}"] for s in subjects_of(published)]), dims="voxel")


def test_shares_of_voxels_that_either_model_predicts_better(published: Arrays) -> None:
    compared = compare_runs(run(published, "gnet8j"), run(published, "gnet8r"))
    both = compared[["first_better", "second_better"]].to_dataarray()
    by_subject = both.sel(roi="all", subject=[f"subj0{s}" for s in subjects_of(published)]).transpose("subject", ...)
    np.testing.assert_allclose(by_subject, published["better_by_subject"], atol=0.05 + 1e-9)
    by_roi = both.sel(subject="all", roi=list(AREAS)).transpose("roi", ...)
    np.testing.assert_allclose(by_roi, published["better_by_roi_exact"], rtol=1e-9)
    for printed in ("better_by_roi", "better_by_roi_cmp"):
        np.testing.assert_allclose(by_roi, published[printed], atol=0.05 + 1e-9)


def test_advantage_over_the_voxels_that_are_predicted_at_all(published: Arrays) -> None:
    first, second = (everyone(published, f"{model}_cc") for model in ("gnet8j", "gnet8r"))
    limit = float(published["xlim"][1])
    counted = advantage(first, second, threshold=float(published["threshold"]), limit=limit)
    np.testing.assert_array_equal(counted["voxels"], published["counted"])
    np.testing.assert_allclose(counted["share"] / 100, published["advantage"], atol=0.005 + 1e-9)


@pytest.mark.parametrize("model", ["gnet8j", "gnet8r"])
def test_median_and_maximum_over_all_subjects(published: Arrays, model: str) -> None:
    values = everyone(published, f"{model}_cc")
    np.testing.assert_allclose([values.median(), values.max()], published[f"{model}_median_max"], atol=5e-4 + 1e-9)


def test_transfer_matrices_and_their_asymmetry(published: Arrays) -> None:
    own = run(published, "gnet8r")
    numbers = subjects_of(published)
    subjects = {
        f"subj0{s}": own[f"subj0{s}"]
        .to_dataset()
        .assign(transfer_accuracy=(("model", "voxel"), np.stack([published[f"transfer_cc_{a}_{s}"] for a in AREAS])))
        .assign_coords(model=list(AREAS))
        for s in numbers
    }
    matrices = transfer_matrices(subjects)
    names = [*numbers, "all"]
    exact = np.stack([published[f"transfer_matrix_{s}"] for s in names])
    # the published means are formed in float32
    np.testing.assert_allclose(matrices.sel(subject=[*subjects, "all"]), exact, atol=1e-8)
    found = transfer_asymmetry(xr.DataArray(exact, dims=("subject", "model", "roi")))
    np.testing.assert_allclose(found["alpha"], published["alpha"], rtol=1e-7)
    # the published fit is iterative, and its error comes from a numerical derivative
    np.testing.assert_allclose(found["alpha_error"], published["alpha_err"], rtol=1e-6)
