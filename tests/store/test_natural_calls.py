"""Calls that a scientist makes without reading the manual: right values, in the requested order, labels in memory."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path

import dask
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

import nsdflow
from nsdflow.errors import SelectionError
from nsdflow.fit.zscoring import zscore_on
from nsdflow.store.query.blocks import BLOCK_BYTES, cut_table
from nsdflow.store.query.indexes import TrialIndex


def in_memory(labelled: xr.DataArray) -> bool:
    """Whether coordinates need no ``compute``: xarray's selections work with them as they are."""
    return all(coordinate.chunks is None and len(np.asarray(coordinate)) for coordinate in labelled.coords.values())


def test_images_come_as_asked(store, images) -> None:
    ask = [7 * 20, 7 * 2, 7 * 20, 0]
    got = store.images(ask)
    assert got["nsd_id"].values.tolist() == ask
    np.testing.assert_array_equal(got.values, images[[20, 2, 20, 0]])
    np.testing.assert_array_equal(store.images(14).values, images[[2]])
    np.testing.assert_array_equal(store.images({14, 7}).values, images[[1, 2]])
    np.testing.assert_array_equal(store.images(range(0, 21, 7)).sel(nsd_id=[14, 0]).values, images[[2, 0]])
    assert store.images([]).shape == (0, 3, 9, 9)


def test_images_are_upright(store, images) -> None:
    """The first row of pixels is at the top of a plot, as in the picture."""
    mpl.use("agg")
    picture = store.images([0])[0]
    assert (np.diff(picture["y"]) < 0).all()
    plotted = picture.transpose("y", "x", "channel").plot.imshow()
    axes = plotted.axes
    shown, extent = np.asarray(plotted.get_array()), plotted.get_extent()
    first_row_on_top = plotted.origin == "upper"
    axis_upward = axes.get_ylim()[1] > axes.get_ylim()[0]
    np.testing.assert_array_equal(shown[0, :, :3], images[0, :, 0].T)
    assert first_row_on_top
    assert (extent[3] > extent[2]) == axis_upward
    mpl.pyplot.close(axes.figure)


def test_trials_come_as_asked(store, recording) -> None:
    whole = store.responses(1).compute()
    ids = recording.nsd_id.tolist()
    repeated = max(set(ids), key=ids.count)
    ask = [repeated, ids[5], repeated]
    got = store.responses(1, nsd_id=ask)
    rows = [row for image in ask for row in range(len(ids)) if ids[row] == image]
    xr.testing.assert_identical(got.compute(), whole.isel(trial=rows))
    by_session = store.responses(1, sessions=[4, 1, 4])
    rows = [*range(30, 45), *range(15), *range(30, 45)]
    xr.testing.assert_identical(by_session.compute(), whole.isel(trial=rows))
    both = store.responses(1, sessions=[4, 1], nsd_id=[repeated])
    assert set(both["nsd_id"].values) <= {repeated}
    xr.testing.assert_identical(store.responses(1, sessions={4, 1}).compute(), whole.isel(trial=np.r_[:15, 30:45]))


@pytest.mark.parametrize("query", [{}, {"roi": "V1"}, {"nsd_id": [7, 0, 7]}, {"shared": False, "zscore": "training"}])
def test_labels_are_in_memory_and_queries_can_be_written(store, tmp_path: Path, query: dict) -> None:
    try:
        responses = store.responses(1, **query)
    except SelectionError:
        pytest.skip("the recording does not show these images")
    means = responses.nsd.mean_over_repetitions()
    for labelled in (responses, means, responses.compute()):
        assert in_memory(labelled)
        assert labelled[:, labelled.ncsnr > 0.3].compute().notnull().all()
        assert labelled.where(labelled.ncsnr > 0.3, drop=True).compute().sizes["voxel"] > 0
        assert labelled.groupby("roi").mean().compute().sizes["roi"] == len(np.unique(labelled["roi"]))
    for number, written in enumerate((responses, means)):
        written.to_dataset(name="r").to_zarr(tmp_path / f"{number}.zarr", consolidated=False)
        again = xr.open_zarr(tmp_path / f"{number}.zarr", consolidated=False)["r"]
        np.testing.assert_array_equal(again.values, written.values)
        written.to_netcdf(tmp_path / f"{number}.nc")


def test_uneven_selections_have_even_blocks(store) -> None:
    """Sessions have different numbers of trials, but Zarr accepts only blocks of one size."""
    rng = np.random.default_rng(0)
    for chosen in (0.9, 0.1):
        rows = np.flatnonzero(rng.random(30_000) < chosen)
        for order in (rows, rng.permutation(rows)):
            for columns in (0, 1, 1350, 15_724, 226_000):
                heights, widths = cut_table(order, columns, (750, 1000))
                assert sum(heights) == len(rows)
                assert sum(widths) == columns
                assert len(set(heights[:-1]) | {heights[0]}) == 1
                assert heights[-1] <= heights[0]
                assert 4 * heights[0] * widths[0] <= BLOCK_BYTES
                assert len(heights) * len(widths) <= 250
    heights, widths = cut_table(np.arange(30_000), 226_000, (750, 1000))
    assert set(heights) == {6000}
    assert widths[0] % 1000 == 0, "whole sessions, whole chunks"


def test_training_zscore_is_that_of_the_strict_protocol(store) -> None:
    percent = store.responses(1, zscore=False).compute()
    shared = percent["shared"].values
    expected = zscore_on(percent.values, percent["session"].values, ~shared)
    got = store.responses(1, zscore="training")
    assert got.attrs["long_name"] == "response, z-scored with the session's training trials"
    np.testing.assert_array_equal(got.values, expected)
    some = store.responses(1, zscore="training", shared=True, sessions=[4, 1], voxels=[50, 3])
    rows = np.concatenate([np.flatnonzero((percent["session"] == s) & shared) for s in (4, 1)])
    np.testing.assert_array_equal(some.values, expected[rows][:, [50, 3]])
    xr.testing.assert_identical(store.responses(1, zscore=True).compute(), store.responses(1).compute())
    assert store.explain(1, zscore="training").shape == got.shape


def test_xarray_selects_by_what_trials_and_images_are(store, images) -> None:
    trials, responses = store.trials(1), store.responses(1)
    assert isinstance(responses.xindexes["session"], TrialIndex)
    assert trials.sel(session=2).sizes["trial"] == 15
    xr.testing.assert_identical(responses.sel(session=2).compute(), store.responses(1, sessions=2).compute())
    assert trials.sel(session=[4, 1])["session"].values.tolist() == [4] * 15 + [1] * 15
    assert trials.sel(session=slice(2, None))["session"].values.tolist() == [2] * 15 + [4] * 15
    one = responses.sel(session=4, trial_in_session=3)
    assert one.dims == ("voxel",)
    xr.testing.assert_equal(
        one.drop_vars(["session", "trial_in_session"]).compute(),
        responses[32].drop_vars(["session", "trial_in_session"]).compute(),
    )
    for wrong in ({"session": 3}, {"session": [1, 9]}, {"session": 1, "trial_in_session": 99}):
        with pytest.raises(KeyError):
            trials.sel(**wrong)
    with pytest.raises(KeyError, match="no step"):
        trials.sel(session=slice(1, 4, 2))
    with pytest.raises(ValueError, match="exact labels"):
        trials.sel(session=2, method="nearest")
    assert "sessions" not in responses.attrs
    means = responses.nsd.mean_over_repetitions()
    some = means["nsd_id"].values[[5, 2]]
    np.testing.assert_array_equal(means.sel(nsd_id=some).values, means.values[[5, 2]])


def test_xarray_aligns_trials_and_images(store, build_store, record, tmp_path: Path) -> None:
    """Two subjects of different sessions are paired by session and trial, not by position."""
    other = build_store(tmp_path / "other.zarr", record(3, sessions=(2, 4, 5)))
    one, two = (s.responses(1).compute().mean("voxel") for s in (store, other))
    pair = xr.align(one, two, join="inner")
    assert [len(part) for part in pair] == [30, 30]
    assert set(pair[0]["session"].values) == {2, 4}
    by_hand = np.corrcoef(one.values[15:], two.values[:30])[0, 1]
    np.testing.assert_allclose(xr.corr(one, two, "trial"), by_hand, rtol=1e-5)
    np.testing.assert_allclose((one - two).values, one.values[15:] - two.values[:30])
    outer = xr.align(one, two, join="outer")
    assert len(outer[0]) == 60
    assert int(outer[0].isnull().sum()) == 15
    joined = xr.concat([one.sel(session=1), one.sel(session=4)], "trial")
    np.testing.assert_array_equal(joined.values, one.values[np.r_[:15, 30:45]])
    assert joined.sel(session=4).sizes["trial"] == 15
    means = [s.responses(1).nsd.mean_over_repetitions() for s in (store, other)]
    both = xr.concat(means, "voxel", join="inner", coords="minimal", compat="override")
    shown = np.intersect1d(means[0]["nsd_id"], means[1]["nsd_id"])
    np.testing.assert_array_equal(both["nsd_id"], shown)
    np.testing.assert_array_equal(both.values, np.concatenate([m.sel(nsd_id=shown).values for m in means], axis=1))
    twice = one.isel(trial=[3, 3, 4])
    with pytest.raises(ValueError, match="labels that occur twice"):
        xr.align(twice, one, join="outer")


def test_the_index_of_trials_survives_what_xarray_does(store) -> None:
    trials = store.trials(1)
    shuffled = trials.isel(trial=np.random.default_rng(0).permutation(45))
    xr.testing.assert_identical(shuffled.sortby(["session", "trial_in_session"]), trials)
    assert trials.rename(trial="presentation").sel(session=1).sizes["presentation"] == 15
    assert trials.rename(session="visit").sel(visit=4).sizes["trial"] == 15
    assert trials.roll(trial=15, roll_coords=True)["session"].values[:15].tolist() == [4] * 15
    assert "TrialIndex" in repr(trials.xindexes)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(trials)), trials)
    assert trials.to_dataframe().shape[0] == 45
    assert trials.groupby("session").count()["run"].values.tolist() == [15, 15, 15]
    assert store.responses(1).groupby("session").mean().sizes["session"] == 3
    assert trials["nsd_id"].isel(trial=3).ndim == 0


def test_averages_know_their_ceiling(store, recording) -> None:
    responses = store.responses(1)
    means = responses.nsd.mean_over_repetitions()
    counts = np.unique(recording.nsd_id, return_counts=True)[1]
    expected = responses["ncsnr"] ** 2 / (responses["ncsnr"] ** 2 + (1 / counts).mean())
    np.testing.assert_allclose(means.nsd.explainable_variance(), expected, rtol=1e-5)
    np.testing.assert_allclose(means.nsd.noise_ceiling(), expected**0.5, rtol=1e-5)
    np.testing.assert_allclose(responses.nsd.noise_ceiling(), responses.nsd.noise_ceiling(1))
    three = means[means["repetitions"] == 3]
    np.testing.assert_allclose(three.nsd.noise_ceiling(), responses.nsd.noise_ceiling(3), rtol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_a_forked_process_reads(build_store, record, tmp_path: Path, codec: str) -> None:
    """As the workers of a torch DataLoader do, after the parent has computed with its own threads."""
    from nsdflow.config.storage import Layout

    store = build_store(tmp_path / "nsd.zarr", record(), layout=Layout(chunk_voxels=16, shard_voxels=48, codec=codec))
    query = store.responses(1, roi="V1")
    with dask.config.set(scheduler="threads"):
        expected = query.compute()
    query.compute(num_workers=2, scheduler="threads")
    expected_mean = float(expected.mean())
    child = os.fork()
    if not child:
        code = 1
        try:
            same = query.compute(num_workers=2, scheduler="threads").equals(expected) and query.compute().equals(
                expected
            )
            fresh = nsdflow.open_store(store.url).responses(1, roi="V1").compute()
            code = 0 if same and float(fresh.mean()) == expected_mean else 2
        finally:
            os._exit(code)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the forked process never answered")
    assert os.waitstatus_to_exitcode(status) == 0
    xr.testing.assert_identical(query.compute(), expected)
