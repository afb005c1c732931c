"""Results of runs: complete or absent, in few files, opened as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import nsdflow
from nsdflow.errors import MissingDataError, StoreError
from nsdflow.runs import write_results


@pytest.fixture
def results(small_store: str) -> xr.DataTree:
    store = nsdflow.open_store(small_store)
    accuracy = store.responses(1, roi="V1").mean("trial").compute().drop_attrs(deep=False).rename("accuracy")
    subject = accuracy.to_dataset().assign_coords(layer=("feature", ["c3", "c4a", "c4a"]))
    subject["weights"] = (("voxel", "feature"), np.arange(3.0 * accuracy.size).reshape(-1, 3))
    history = xr.Dataset({"loss": ("epoch", [3.0, 2.0])}, coords={"epoch": [1, 2]})
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"kind": "gnet"}), "/subj01": subject, "/history": history})


def test_there_and_back(results: xr.DataTree, small_store: str, tmp_path: Path) -> None:
    write_results(tmp_path, results)
    opened = nsdflow.open_run(tmp_path)
    xr.testing.assert_identical(opened.load(), results)
    assert opened["subj01/layer"].dtype.kind == "U"
    volume = opened["subj01/accuracy"].nsd.to_volume()
    assert volume.shape == tuple(nsdflow.open_store(small_store).responses(1).attrs["shape"])
    assert opened["subj01/accuracy"].nsd.noise_ceiling(3).max() < 1
    variables = sum(len(node.dataset.variables) for node in results.subtree)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) <= 2 * variables + len(list(results.subtree))


def test_results_are_replaced_as_a_whole(results: xr.DataTree, tmp_path: Path, monkeypatch) -> None:
    write_results(tmp_path, results)
    again = results.copy(deep=True)
    again["subj01/accuracy"].values[:] = 7

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(xr.DataTree, "to_zarr", fail)
        with pytest.raises(StoreError, match="no space left"):
            write_results(tmp_path, again)
    xr.testing.assert_identical(nsdflow.open_run(tmp_path).load(), results)
    write_results(tmp_path, again)
    assert (nsdflow.open_run(tmp_path)["subj01/accuracy"] == 7).all()
    assert [path.name for path in tmp_path.iterdir()] == ["results.zarr"]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such run"):
        nsdflow.open_run(tmp_path / "nothing")
    with pytest.raises(MissingDataError, match=r"no run, for it has no run\.yaml"):
        nsdflow.open_run(tmp_path)
    (tmp_path / "run.yaml").touch()
    with pytest.raises(MissingDataError, match="has no results yet"):
        nsdflow.open_run(tmp_path)


def test_a_store_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(MissingDataError, match="a store, not a run"):
        nsdflow.open_run(tmp_path)
