"""Dissimilarities, representational similarity and identification recover the planted geometry."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from nsdflow.analysis import dissimilarities, identification, rsa
from nsdflow.errors import SelectionError


def patterns(images: int = 40, voxels: int = 60, seed: int = 0, dim: str = "voxel") -> xr.DataArray:
    values = np.random.default_rng(seed).standard_normal((images, voxels))
    return xr.DataArray(values, dims=("image", dim), coords={"nsd_id": ("image", 3 * np.arange(images))})


@pytest.mark.parametrize(("metric", "oracle"), [("correlation", "correlation"), ("euclidean", "sqeuclidean")])
def test_dissimilarities_are_those_of_scipy(metric: str, oracle: str) -> None:
    x = patterns(12, 30)
    expected = squareform(pdist(x.values, oracle)) / (30 if metric == "euclidean" else 1)
    np.testing.assert_allclose(dissimilarities(x, metric), expected, atol=1e-12)  # type: ignore[arg-type]
    lazy = dissimilarities(x.chunk(image=5, voxel=7), metric)  # type: ignore[arg-type]
    assert isinstance(lazy.data, da.Array)
    np.testing.assert_allclose(lazy, expected, atol=1e-12)
    np.testing.assert_array_equal(lazy["nsd_id"], x["nsd_id"])


def test_similarity_is_spearman_over_pairs_and_images_are_matched() -> None:
    model, brain = patterns(20, seed=1, dim="feature"), patterns(20, seed=2)
    upper = np.triu_indices(20, 1)
    expected = spearmanr(dissimilarities(model).values[upper], dissimilarities(brain).values[upper])[0]
    found = rsa(model, brain, resamples=20)
    assert found["similarity"].item() == pytest.approx(expected)
    shuffled = brain.isel(image=np.random.default_rng(0).permutation(20))
    assert rsa(model, shuffled, resamples=20)["similarity"].item() == pytest.approx(expected)
    fewer = rsa(model, brain.isel(image=slice(3, None)), resamples=2)
    assert fewer.attrs["images"] == 17


def test_the_planted_model_is_found_within_the_ceiling() -> None:
    """Three brains see the same geometry through different voxels and noise; one model has it, one does not."""
    rng = np.random.default_rng(3)
    truth = patterns(60, 20, dim="feature")
    brains = {
        f"subj0{s}": xr.DataArray(
            truth.values @ rng.standard_normal((20, 200)) + 6 * rng.standard_normal((60, 200)),
            dims=("image", "voxel"),
            coords=truth.coords,
        )
        for s in (1, 2, 3)
    }
    found = rsa({"right": truth, "wrong": patterns(60, 20, seed=9, dim="feature")}, brains, resamples=40)
    right, wrong = found["mean_similarity"].values
    assert right > 0.25 > 0.1 > abs(wrong)
    assert float(found["ceiling_lower"]) < float(found["ceiling_upper"])
    assert right > float(found["ceiling_lower"]) - 0.05
    assert right < float(found["ceiling_upper"]) + 0.05
    assert (found["low"].sel(model="right") > 0.1).all()
    assert (found["low"] <= found["high"]).all()


def test_patterns_that_cannot_be_compared_are_refused() -> None:
    x = patterns(10)
    with pytest.raises(SelectionError, match="four or more"):
        rsa(x, x.assign_coords(nsd_id=x["nsd_id"] + 1))
    with pytest.raises(SelectionError, match="no nsd_id to match"):
        rsa(x.drop_vars("nsd_id"), patterns(9).drop_vars("nsd_id"))
    with pytest.raises(SelectionError, match="image and one other"):
        dissimilarities(x.rename(image="trial"))
    with pytest.raises(SelectionError, match="unknown dissimilarity"):
        dissimilarities(x, "cosine")  # type: ignore[arg-type]


def seen(noise: float, images: int = 100, voxels: int = 80) -> tuple[xr.DataArray, xr.DataArray]:
    """Predictions, and three trials of every image: the prediction plus noise, at another scale per voxel."""
    rng = np.random.default_rng(0)
    predictions = patterns(images, voxels)
    shown = rng.permutation(np.repeat(np.arange(images), 3))
    values = predictions.values[shown] + noise * rng.standard_normal((shown.size, voxels))
    values = values * rng.uniform(0.1, 10, voxels) + rng.normal(0, 5, voxels)
    ids = predictions["nsd_id"].values[shown]
    return predictions, xr.DataArray(values, dims=("trial", "voxel"), coords={"nsd_id": ("trial", ids)})


def test_images_are_identified_where_predictions_are_right() -> None:
    predictions, responses = seen(0.3)
    found = identification(predictions, responses)
    assert float(found["top"].sel(k=1)) == 1
    assert float(found["chance"].sel(k=5)) == 0.05
    assert found.attrs["candidates"] == 100
    # averaging three trials identifies better
    predictions, responses = seen(4.0)
    averaged = responses.groupby("nsd_id").mean("trial").rename(nsd_id="image")
    averaged = averaged.assign_coords(nsd_id=("image", averaged["image"].values)).drop_vars("image")
    single, mean = (float(identification(predictions, y)["top"].sel(k=1)) for y in (responses, averaged))
    assert 0.05 < single < mean - 0.1


def test_unrelated_predictions_are_at_chance() -> None:
    _, responses = seen(0.3)
    found = identification(patterns(100, 80, seed=5), responses, k=(1, 10, 50))
    np.testing.assert_allclose(found["top"], found["chance"], atol=0.1)
    assert 35 < float(found["median_rank"]) < 65


def test_candidates_are_stated_and_checked() -> None:
    predictions, responses = seen(0.3)
    few = responses.isel(trial=responses["nsd_id"].values < 60)
    assert identification(predictions, few, k=(1,)).attrs["candidates"] == 20
    assert identification(predictions, few, candidates=predictions["nsd_id"], k=(1,)).attrs["candidates"] == 100
    with pytest.raises(SelectionError, match="are no candidates"):
        identification(predictions, responses, candidates=[0, 3], k=(1,))
    with pytest.raises(SelectionError, match="have no prediction"):
        identification(predictions.isel(image=slice(1, None)), responses)
    with pytest.raises(SelectionError, match="k = 101"):
        identification(predictions, responses, k=(101,))
    constant = predictions.copy(data=np.ones(predictions.shape))
    assert float(identification(constant, responses, k=(1,))["median_rank"]) == 49.5  # ties count half
