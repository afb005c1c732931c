"""Results of runs: complete or absent, in few files, opened as they were written."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from dask.utils import format_bytes

import nsdflow
from nsdflow.errors import MissingDataError, StoreError
from nsdflow.labels import label_of, with_labels
from nsdflow.runs import write_results


@pytest.fixture
def results(small_store: str) -> xr.DataTree:
    store = nsdflow.open_store(small_store)
    accuracy = store.responses(1, roi="V1").mean("trial").compute().drop_attrs(deep=False).rename("accuracy")
    subject = accuracy.to_dataset().assign_coords(layer=("feature", ["c3", "c4a", "c4a"]))
    subject["weights"] = (("voxel", "feature"), np.arange(3.0 * accuracy.size).reshape(-1, 3))
    history = xr.Dataset({"loss": ("epoch", [3.0, 2.0])}, coords={"epoch": [1, 2]})
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={"kind": "gnet"}), "/subj01": with_labels(subject), "/history": history}
    )


def test_variables_are_labelled_where_they_have_no_label(results: xr.DataTree, tmp_path: Path) -> None:
    own = {"long_name": "loss", "units": "bits"}
    bare = xr.Dataset({"accuracy_std": ("voxel", [0.1]), "bias": ("voxel", [1.0], own), "mine": ("voxel", [2])})
    write_results(tmp_path, xr.DataTree.from_dict({"/subj01": bare}))
    found = nsdflow.open_run(tmp_path)["subj01"]
    assert found["accuracy_std"].attrs == label_of("accuracy_std")
    assert found["bias"].attrs == own
    assert not found["mine"].attrs


def test_there_and_back(results: xr.DataTree, small_store: str, tmp_path: Path) -> None:
    write_results(tmp_path, results)
    opened = nsdflow.open_run(tmp_path)
    assert opened.load().identical(results)
    assert opened["subj01/layer"].dtype.kind == "U"
    volume = opened["subj01/accuracy"].nsd.to_volume()
    assert volume.shape == tuple(nsdflow.open_store(small_store).responses(1).attrs["shape"])
    assert opened["subj01/accuracy"].nsd.noise_ceiling(3).max() < 1
    variables = sum(len(node.dataset.variables) for node in results.subtree)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) <= 2 * variables + len(list(results.subtree))


def test_a_notebook_shows_a_summary_of_a_run(results: xr.DataTree, tmp_path: Path) -> None:
    voxels = results["subj01"].sizes["voxel"]
    results["subj01"].attrs |= {"training_trials": 1234, "validation_trials": 56}
    results["subj01/noise_ceiling"] = xr.full_like(results["subj01/accuracy"], 0.5)
    results["subj01/accuracy"] = xr.full_like(results["subj01/accuracy"], 0.4)
    write_results(tmp_path, results)
    html = nsdflow.open_run(tmp_path)._repr_html_()
    cells = re.findall("<td[^>]*>(.*?)</td>", html.partition("</table>")[0])
    size = format_bytes(results["subj01"].to_dataset().nbytes)
    assert cells == ["subj01", f"{voxels:,}", "1,234", "–", "56", size, "0.400", "0.500", "80%"]
    assert str(tmp_path) in html
    assert "xarray" in html  # the tree itself follows
    record = "pipeline: {name: <script>, kind: gnet, protocol: strict}\nstore: {url: s.zarr, synthetic: true}\n"
    (tmp_path / "run.yaml").write_text(record)
    html = nsdflow.open_run(tmp_path)._repr_html_()
    assert "pipeline &lt;script&gt; (kind gnet), protocol strict<br>store s.zarr, of a synthetic NSD<table>" in html
    (tmp_path / "run.yaml").write_text("{")
    assert "run.yaml is not YAML" in nsdflow.open_run(tmp_path)._repr_html_()


def test_a_run_is_copied_and_sent_with_its_summary(results: xr.DataTree, tmp_path: Path) -> None:
    write_results(tmp_path, results)
    run = nsdflow.open_run(tmp_path)
    for again in (copy.deepcopy(run), pickle.loads(pickle.dumps(run)), run.compute()):
        assert again.identical(results)
        assert str(tmp_path) in again._repr_html_()


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
    assert nsdflow.open_run(tmp_path).load().identical(results)
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
