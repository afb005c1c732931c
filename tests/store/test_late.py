"""Coordinates are read on first use, and otherwise behave like coordinates in memory.

The oracle is the same array with its coordinates in memory.
"""

from __future__ import annotations

import copy
import pickle
import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

from nsdflow.errors import StoreError
from nsdflow.store import open_store
from nsdflow.store.query.late import LateArray

OPERATIONS = {
    "mask": lambda r: r[:, r.ncsnr > 0.3],
    "where": lambda r: r.where(r.ncsnr > 0.3, drop=True),
    "groupby": lambda r: r.groupby("roi").mean(),
    "groupby by trial": lambda r: r.groupby("run").sum(),
    "isel": lambda r: r.isel(trial=[3, 1, 1], voxel=slice(None, None, -2)),
    "isel twice": lambda r: r.isel(voxel=slice(1, 9)).isel(voxel=[-1, 0]).isel(voxel=np.array([True, False])),
    "one trial": lambda r: r.isel(trial=2),
    "sel": lambda r: r.sel(session=1),
    "vectorised": lambda r: r.isel(trial=xr.DataArray([0, 2], dims="x"), voxel=xr.DataArray([1, 0], dims="x")),
    "transpose": lambda r: r.T,
    "arithmetic": lambda r: r - r.mean("trial") + r,
    "with a coordinate": lambda r: r * r.ncsnr + r.nsd_id,
    "comparison": lambda r: (r.roi == 1) | r.roi.isin([2, 3]) | ~(r.i > 2),
    "numpy": lambda r: np.sqrt(r.ncsnr).clip(0, 1) + abs(-r.ncsnr),
    "reduction": lambda r: xr.Dataset({"a": r.ncsnr.max(), "b": r.nsd_id.min(), "c": r.shared.sum()}),
    "concat": lambda r: xr.concat([r.isel(trial=slice(0, 3)), r.isel(trial=slice(3, 6))], "trial"),
    "concat voxels": lambda r: xr.concat([r.isel(voxel=slice(0, 3)), r.isel(voxel=slice(3, 6))], "voxel"),
    "merge": lambda r: xr.merge([r.rename("a"), (r + 1).rename("b")]),
    "sort": lambda r: r.sortby("ncsnr"),
    "swap": lambda r: r.swap_dims(voxel="flat_index").sel(flat_index=r.flat_index.values[2]),
    "index": lambda r: (
        r.reset_index(["session", "trial_in_session"]).set_xindex("nsd_id").sel(nsd_id=r.nsd_id.values[0])
    ),
    "stack": lambda r: r.reset_index(["session", "trial_in_session"]).isel(trial=[0]).squeeze("trial"),
    "apply": lambda r: xr.apply_ufunc(lambda a, b: a * b, r, r.ncsnr, dask="parallelized", output_dtypes=[np.float32]),
    "chunk": lambda r: r.chunk(voxel=3),
    "deep copy": lambda r: r.copy(deep=True),
    "copies": lambda r: copy.deepcopy(copy.copy(r)),
    "pickle": lambda r: pickle.loads(pickle.dumps(r)),
    "load": lambda r: r.load(),
    "persist": lambda r: r.persist(),
    "dataset": lambda r: r.to_dataset(name="x").drop_vars("i").assign(y=r.ncsnr),
    "reset": lambda r: r.reset_coords(["ncsnr", "roi"]),
    "assign": lambda r: r.assign_coords(ncsnr=r.ncsnr + 1, double=2 * r.roi),
    "rolled": lambda r: r.roll(voxel=2, roll_coords=True),
    "padded": lambda r: r.isel(voxel=slice(0, 3)).shift(voxel=1),
    "cumulative": lambda r: r.ncsnr.cumsum() + r.ncsnr.argsort(),
    "unique": lambda r: xr.DataArray(np.unique(r.roi)),
    "astype": lambda r: r.roi.astype(float).fillna(0),
    "where else": lambda r: xr.where(r.ncsnr > 0.3, r.ncsnr, 0),
    "binned": lambda r: r.groupby_bins("ncsnr", 3).mean(),
    "weighted": lambda r: r.weighted(r.ncsnr.fillna(0)).mean("voxel"),
    "corr": lambda r: xr.corr(r, r.ncsnr, "voxel"),
    "accessor": lambda r: r.nsd.mean_over_repetitions(),
}  # fmt: skip


@pytest.fixture(scope="module")
def late(store) -> xr.DataArray:
    return store.responses(1).isel(voxel=slice(0, 12))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_everything_is_as_with_coordinates_in_memory(store, operation) -> None:
    fresh = open_store(store.url).responses(1).isel(voxel=slice(0, 12))
    eager = fresh.copy().assign_coords(
        {name: (coordinate.dims, np.asarray(coordinate.values), coordinate.attrs) for name, coordinate in
         open_store(store.url).responses(1).isel(voxel=slice(0, 12)).coords.items() if name not in fresh.xindexes}
    )  # fmt: skip
    assert isinstance(fresh["ncsnr"].variable._data, LateArray)
    assert isinstance(eager["ncsnr"].variable._data, np.ndarray)
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(operation(fresh).compute(), operation(eager).compute())


def test_tables_and_files(late, tmp_path: Path) -> None:
    with dask.config.set(scheduler="synchronous"):
        frame = late.isel(trial=slice(0, 2)).to_dataframe(name="x")
        assert frame["ncsnr"].dtype == np.float32
        np.testing.assert_array_equal(frame["roi"].to_numpy()[:12], late.roi.values)
        plain = late.drop_vars("hemisphere")
        plain.to_netcdf(tmp_path / "q.nc")
        plain.to_dataset(name="r").to_zarr(tmp_path / "q.zarr", consolidated=False)
        for again in (
            xr.open_dataarray(tmp_path / "q.nc"), xr.open_zarr(tmp_path / "q.zarr", consolidated=False)["r"]
        ):  # fmt: skip
            np.testing.assert_array_equal(again["ncsnr"], late["ncsnr"])
            np.testing.assert_array_equal(again["nsd_id"], late["nsd_id"])
            again.close()
    assert "ncsnr" in repr(late)
    assert "ncsnr" in late._repr_html_()


def test_what_a_query_does_not_use_is_not_read(store, tmp_path: Path) -> None:
    """Values are computed although most coordinates are missing; using a missing one is an error."""
    shutil.copytree(store.url, tmp_path / "nsd.zarr")
    for name in ("ncsnr", "run", "k"):
        shutil.rmtree(tmp_path / "nsd.zarr/subj01" / name)
    values = open_store(str(tmp_path / "nsd.zarr")).responses(1, roi="V1").compute(scheduler="synchronous")
    np.testing.assert_array_equal(values, store.responses(1, roi="V1").compute(scheduler="synchronous"))
    with pytest.raises(StoreError, match=r"ncsnr.*missing"):
        _ = values["ncsnr"].values
    with pytest.raises(StoreError, match=r"run.*missing"):
        _ = values.groupby("run").mean()


def test_writing_into_a_coordinate_changes_no_other(store) -> None:
    one, other = store.responses(1), store.responses(1)
    before = other["ncsnr"].values.copy()
    one["ncsnr"][0] = 77
    one["ncsnr"].values[1] = 78
    assert one["ncsnr"].values[:2].tolist() == [77, 78]
    np.testing.assert_array_equal(other["ncsnr"], before)
    np.testing.assert_array_equal(store.voxels(1)["ncsnr"], before)


def test_a_result_is_handed_over_and_what_is_kept_is_not(store) -> None:
    """The only block of a query is not copied; a persisted one is."""
    query = store.responses(1, roi="V1")
    with dask.config.set(scheduler="synchronous"):
        kept = query.persist()
        first = kept.compute()
        first += 1
        np.testing.assert_array_equal(kept.compute(), query.compute())
        values = query.compute()
        values *= 2
        np.testing.assert_array_equal(values, 2 * query.compute())
