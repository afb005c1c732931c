"""Measures take arrays as people have them: whole numbers, half precision, lazy, turned, bare, with NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr

from nsdflow import analysis
from nsdflow.errors import SelectionError
from nsdflow.labels import label_of

IMAGES, VOXELS = 30, 6
_rng = np.random.default_rng(0)
SHOWN = _rng.permutation(np.repeat(np.arange(IMAGES), 3))
TRUTH = _rng.integers(-90, 90, (IMAGES, VOXELS))
#: Whole numbers that every type holds; the differences of two of them overflow in eight bits.
PREDICTED = xr.DataArray(TRUTH, dims=("image", "voxel"), coords={"nsd_id": ("image", np.arange(IMAGES))})
MEASURED = xr.DataArray(
    np.clip(TRUTH[SHOWN] + _rng.integers(-60, 60, (SHOWN.size, VOXELS)), -127, 127),
    dims=("trial", "voxel"),
    coords={"nsd_id": ("trial", SHOWN)},
)
OTHER = PREDICTED.copy(data=np.roll(TRUTH, 3, 1))

Measure = Callable[[xr.DataArray, xr.DataArray], Any]


def bands(p: xr.DataArray) -> xr.DataArray:
    return xr.concat([p, OTHER.astype(p.dtype)], "band").transpose("image", "voxel", "band")


BY_VOXEL: dict[str, Measure] = {
    **{metric: lambda p, y, m=metric: analysis.accuracy(p, y, metric=m) for metric in analysis.METRICS},
    "bootstrap": lambda p, y: analysis.uncertainty(p, y, resamples=9),
    "ranks": lambda p, y: analysis.uncertainty(p, y, metric="rank_correlation", resamples=3),
    "compared": lambda p, y: analysis.compare_predictions(p, OTHER.astype(p.dtype), y, resamples=9),
    "partition": lambda p, y: analysis.variance_partition(bands(p), y, resamples=9),
    "tuning": lambda p, y: analysis.tuning(bands(p).rename(band="partition"), y, resamples=9)["inclusion"],
    "ncsnr": lambda p, y: analysis.estimate_ncsnr(y),
    "reliability": lambda p, y: analysis.reliability(y),
}
OF_IMAGES: dict[str, Measure] = {
    "dissimilarities": lambda p, y: analysis.dissimilarities(p).drop_vars("nsd_id"),
    "rsa": lambda p, y: analysis.rsa(p, OTHER.astype(p.dtype), resamples=3)["similarity"],
    "identification": lambda p, y: analysis.identification(p, y)["rank"],
}
DISGUISES: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "int8": lambda x: x.astype(np.int8),
    "int16": lambda x: x.astype(np.int16),
    "float16": lambda x: x.astype(np.float16),
    "lazy": lambda x: x.astype(np.float32).chunk({x.dims[0]: 7, "voxel": 4}),
    "turned": lambda x: x.astype(np.float32).transpose("voxel", ...),
    "strided": lambda x: x.copy(data=np.asfortranarray(x.values.astype(np.float64))),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("name", BY_VOXEL | OF_IMAGES)
def test_types_and_chunks_change_no_value(name: str, disguise: str) -> None:
    measure = (BY_VOXEL | OF_IMAGES)[name]
    expected = measure(PREDICTED.astype(np.float64), MEASURED.astype(np.float64))
    found = measure(DISGUISES[disguise](PREDICTED), DISGUISES[disguise](MEASURED))
    xr.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BY_VOXEL | OF_IMAGES)
@pytest.mark.parametrize("kept", [True, False])
def test_values_have_their_own_labels(name: str, kept: bool) -> None:
    """xarray keeps the attributes of inputs, by version and option: a dissimilarity is no "response" in percent."""
    label = {"long_name": "response", "units": "percent"}
    with xr.set_options(keep_attrs=kept):
        found = (BY_VOXEL | OF_IMAGES)[name](PREDICTED.assign_attrs(label), MEASURED.assign_attrs(label))
    for variable in found.data_vars.values() if isinstance(found, xr.Dataset) else [found]:
        expected = label_of(str(variable.name))
        assert expected
        assert {key: variable.attrs.get(key) for key in label} == expected


def damaged(x: xr.DataArray) -> xr.DataArray:
    """Voxel 1 holds a NaN, voxel 2 is NaN, voxel 4 is constant."""
    values = x.values.astype(np.float32)
    values[3, 1], values[:, 2], values[:, 4] = np.nan, np.nan, 0.1
    return x.copy(data=values)


@pytest.mark.parametrize("name", BY_VOXEL)
def test_damaged_voxels_leave_the_others_alone(name: str) -> None:
    expected = BY_VOXEL[name](PREDICTED.astype(np.float32), MEASURED.astype(np.float32)).isel(voxel=[0, 3, 5])
    for predicted in (PREDICTED.astype(np.float32), damaged(PREDICTED)):
        found = BY_VOXEL[name](predicted, damaged(MEASURED)).isel(voxel=[0, 3, 5])
        xr.testing.assert_allclose(found, expected, rtol=1e-5)


def test_damaged_voxels_of_patterns() -> None:
    """Identification goes on without them; dissimilarities have no value."""
    found = analysis.identification(damaged(PREDICTED), damaged(MEASURED))["rank"]
    assert float(found.mean(skipna=False)) < IMAGES / 4
    with pytest.raises(SelectionError, match=r"model: 30 of 30 patterns are constant or hold NaN"):
        analysis.rsa(damaged(PREDICTED), OTHER)


@pytest.mark.parametrize("bare", [np.asarray, lambda x: torch.from_numpy(x.values)], ids=["numpy", "torch"])
def test_arrays_without_labels_are_paired_by_row(bare: Callable[[xr.DataArray], Any]) -> None:
    rows = PREDICTED.isel(image=SHOWN).drop_vars("nsd_id").rename(image="trial")
    p, y = (bare(x.astype(np.float32)) for x in (rows, MEASURED))
    np.testing.assert_allclose(analysis.accuracy(p, y), analysis.accuracy(PREDICTED, MEASURED), rtol=1e-5)
    np.testing.assert_allclose(analysis.accuracy(p, MEASURED), analysis.accuracy(PREDICTED, MEASURED), rtol=1e-5)
    assert analysis.compare_predictions(p, p, y, resamples=2)["difference"].max() == 0
    both = bare(xr.concat([rows, rows], "band").transpose("trial", "voxel", "band").astype(np.float64))
    assert analysis.variance_partition(both, y, resamples=0)["product_variance"].dims == ("band", "voxel")
    p = bare(PREDICTED.astype(np.float32))
    assert analysis.rsa(p, p, resamples=2)["similarity"].item() == pytest.approx(1)
    assert float(analysis.identification(p, p)["top"][0]) == 1
    assert float(analysis.noise_ceiling(bare(xr.DataArray([1.0])))[0]) == pytest.approx(0.5**0.5)


TWICE = PREDICTED.isel(image=[0, *range(IMAGES)])
NAMELESS = PREDICTED.drop_vars("nsd_id")
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "an image twice": (lambda: analysis.accuracy(TWICE, MEASURED), "image 0 2 times"),
    "patterns twice": (lambda: analysis.rsa(TWICE, PREDICTED), "image 0 2 times"),
    "other names": (lambda: analysis.accuracy(PREDICTED, MEASURED.rename(trial="time")), "rename the one of"),
    "other voxels": (
        lambda: analysis.accuracy(PREDICTED.assign_coords(voxel=range(6)), MEASURED.assign_coords(voxel=range(1, 7))),
        "name different voxels",
    ),
    "no ids": (lambda: analysis.identification(NAMELESS, MEASURED), "predictions need the dimension"),
    "no ceiling": (lambda: analysis.normalised_accuracy(analysis.accuracy(PREDICTED, MEASURED)), "give the ceiling"),
    "no trials": (lambda: analysis.estimate_ncsnr(MEASURED.values), "with the coordinate nsd_id"),
    "no splits": (lambda: analysis.reliability(MEASURED, splits=0), "splits must be 1 or more"),
    "one bare": (lambda: analysis.identification(TRUTH, MEASURED), "predictions need the dimension"),
    "a cube": (lambda: analysis.accuracy(np.zeros((2, 3, 4)), MEASURED), "give an xarray.DataArray"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_for(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(SelectionError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_two_trials_that_disagree_have_a_reliability() -> None:
    """The formula of Spearman and Brown has no value where the halves correlate by -1."""
    values = np.array([[1.0, 2.0, 3.0, 3.0, 2.0, 1.0]]).T
    trials = xr.DataArray(values, dims=("trial", "voxel"), coords={"nsd_id": ("trial", [0, 1, 2, 0, 1, 2])})
    assert float(analysis.reliability(trials)[0]) == -1
    assert isinstance(analysis.reliability(trials.chunk(trial=2)).data, da.Array)
