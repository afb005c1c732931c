"""Stores by URL, on a file system that cannot rename."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest
import xarray as xr

from nsdflow.engine.execute import run_task
from nsdflow.errors import MissingDataError, NsdflowError, StoreError
from nsdflow.ingestion.ingest import carry_out
from nsdflow.store import Store, open_store

SETTINGS = {"subjects": [2], "voxels": "visual"}


@pytest.fixture
def bucket() -> Iterator[str]:
    yield "memory://bucket"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def same(one: Store, other: Store) -> None:
    for query in ({"roi": "V1", "shared": True}, {"zscore": False}):
        xr.testing.assert_identical(one.responses(2, **query).compute(), other.responses(2, **query).compute())
    xr.testing.assert_identical(one.images().compute(), other.images().compute())


def test_a_store_is_read_from_anywhere(source, plan, client, bucket: str, tmp_path) -> None:
    store = carry_out(plan(source, tmp_path / "nsd.zarr", **SETTINGS), client)
    fsspec.filesystem("memory").put(store.url, "/bucket/nsd.zarr", recursive=True)
    same(open_store(f"{bucket}/nsd.zarr"), store)
    with pytest.raises(MissingDataError, match=r"memory://bucket/other\.zarr: no store there"):
        open_store(f"{bucket}/other.zarr")


def test_where_nothing_can_be_renamed_the_root_is_written_last(source, plan, client, bucket: str, tmp_path) -> None:
    planned = plan(source, f"{bucket}/nsd.zarr", **SETTINGS)
    for task in planned.tasks[:3]:
        run_task(planned.folder, task.call)
    with pytest.raises(NsdflowError, match=r"not an nsdflow store|no store there"):
        open_store(f"{bucket}/nsd.zarr")
    planned = plan(source, f"{bucket}/nsd.zarr", **SETTINGS)
    assert len(planned.missing()) == len(planned.tasks) - 3
    store = carry_out(planned, client)
    assert fsspec.filesystem("memory").find("/bucket/nsd.zarr.building") == []
    same(store, carry_out(plan(source, tmp_path / "nsd.zarr", **SETTINGS), client))
    assert plan(source, f"{bucket}/nsd.zarr", **SETTINGS).finished
    with pytest.raises(StoreError, match="exists with other voxels"):
        plan(source, f"{bucket}/nsd.zarr", **SETTINGS | {"voxels": "evc"})
    with pytest.raises(StoreError, match="added to a store on a file system only"):
        plan(source, f"{bucket}/nsd.zarr", **SETTINGS | {"subjects": [1]})
