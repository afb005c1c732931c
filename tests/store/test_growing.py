"""A store to which sessions or images are added after a query was made."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import nsdflow
from nsdflow.errors import StoreError


def part_of(recording, sessions: tuple[int, ...]):
    """The same recording with some of its sessions."""
    kept = [recording.sessions.index(session) for session in sessions]
    trials = np.concatenate([np.arange(recording.trials) + recording.trials * row for row in kept])
    return replace(
        recording, volumes=recording.volumes[kept], sessions=sessions,
        nsd_id=recording.nsd_id[trials], shared=recording.shared[trials],
    )  # fmt: skip


@pytest.mark.parametrize("zscore", ["session", "training", False])
@pytest.mark.parametrize("before", [(1, 2), (2, 5), (5,)])
def test_queries_of_the_old_store_read_the_same(build_store, record, tmp_path: Path, before, zscore) -> None:
    """Sessions are added after, between and before the existing ones."""
    recording = record(0, sessions=(1, 2, 4, 5))
    old = build_store(tmp_path / "nsd.zarr", part_of(recording, before))
    lazy = old.responses(1, zscore=zscore, voxels=[40, 3, 3])
    expected = lazy.compute()
    build_store(tmp_path / "more.zarr", recording)
    (tmp_path / "nsd.zarr").rename(tmp_path / "old.zarr")
    (tmp_path / "more.zarr").rename(tmp_path / "nsd.zarr")
    xr.testing.assert_identical(lazy.compute(), expected)
    xr.testing.assert_identical(old.responses(1, zscore=zscore, voxels=[40, 3, 3]).compute(), expected)
    new = nsdflow.open_store(tmp_path / "nsd.zarr").responses(1, zscore=zscore, voxels=[40, 3, 3])
    kept = new.sel(session=list(before))
    np.testing.assert_array_equal(kept.values, expected.values)
    np.testing.assert_array_equal(kept["nsd_id"], expected["nsd_id"])


def test_a_store_that_was_replaced_is_an_error(build_store, record, tmp_path: Path) -> None:
    lazy = build_store(tmp_path / "nsd.zarr", record(0, sessions=(1, 2))).responses(1)
    build_store(tmp_path / "other.zarr", record(0, sessions=(2, 4)))
    (tmp_path / "nsd.zarr").rename(tmp_path / "old.zarr")
    (tmp_path / "other.zarr").rename(tmp_path / "nsd.zarr")
    with pytest.raises(StoreError, match="subj01: was replaced after this query was made; open the store again"):
        lazy.compute()


def test_images_are_found_by_their_id(build_store, record, images, tmp_path: Path) -> None:
    old = build_store(tmp_path / "nsd.zarr", record(), images[:5])
    lazy = old.images([14, 0])
    build_store(tmp_path / "more.zarr", record(), images)
    (tmp_path / "nsd.zarr").rename(tmp_path / "old.zarr")
    (tmp_path / "more.zarr").rename(tmp_path / "nsd.zarr")
    np.testing.assert_array_equal(lazy.values, images[[2, 0]])


def swap(folder: Path) -> None:
    (folder / "nsd.zarr").rename(folder / "old.zarr")
    (folder / "more.zarr").rename(folder / "nsd.zarr")


def test_images_of_another_store_are_an_error(build_store, record, images, tmp_path: Path) -> None:
    """The same number of images, but different ones."""
    lazy = build_store(tmp_path / "nsd.zarr", record(), images[:4]).images([14])
    build_store(tmp_path / "more.zarr", record(), images[:4])
    ids = tmp_path / "more.zarr/stimuli/nsd_id"
    zarr.open_array(ids, mode="r+")[...] = [1, 2, 3, 4]
    swap(tmp_path)
    with pytest.raises(StoreError, match="was replaced after this query was made"):
        lazy.compute()


def test_coordinates_of_a_query_are_those_of_its_time(build_store, record, tmp_path: Path) -> None:
    """They are read after the store grew, and belong to the requested trials."""
    recording = record(0, sessions=(1, 2, 4))
    old = build_store(tmp_path / "nsd.zarr", part_of(recording, (1, 4)))
    expected = nsdflow.open_store(old.url).responses(1, shared=False)
    expected = expected.assign_coords({name: expected[name].copy(deep=True) for name in ("nsd_id", "roi")})
    lazy = old.responses(1, shared=False)
    build_store(tmp_path / "more.zarr", recording)
    swap(tmp_path)
    for name in ("nsd_id", "roi", "session"):
        np.testing.assert_array_equal(lazy[name], expected[name])


def test_a_store_without_a_name_for_a_moment(build_store, record, tmp_path: Path) -> None:
    """Two renames, where the file system cannot exchange names: a reader waits."""
    lazy = build_store(tmp_path / "nsd.zarr", record()).responses(1)
    (tmp_path / "nsd.zarr").rename(tmp_path / "aside")
    timer = threading.Timer(0.1, (tmp_path / "aside").rename, [tmp_path / "nsd.zarr"])
    timer.start()
    assert lazy.compute(scheduler="synchronous").notnull().all()
    timer.join()
