"""The data of the explorer's page. Pointing at voxels is tested in the browser."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from typer.testing import CliRunner

import nsdflow
from nsdflow.cli.app import app
from nsdflow.errors import MissingDataError, SelectionError
from nsdflow.report.brain.explorer import write_explorer
from nsdflow.report.brain.explorer.packing import pack, pack_rows, thumbnail
from nsdflow.runs import open_run
from nsdflow.runs.identity import store_identity
from nsdflow.runs.results import write_results
from nsdflow.store import open_store
from nsdflow.synthetic import SyntheticSpec, write_nsd


@pytest.fixture
def run(subject: xr.Dataset, tmp_path: Path) -> Path:
    write_results(tmp_path / "run", xr.DataTree.from_dict({"/": xr.Dataset(), "/subj01": subject}))
    return tmp_path / "run"


def payload(page: Path) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    return json.loads(text)


def unpacked(part: dict[str, str]) -> np.ndarray:
    return np.frombuffer(b64decode(part["data"]), part["type"].removesuffix("Array").lower())


def test_maps_and_pixels_say_the_same_as_the_results(run: Path, subject: xr.Dataset) -> None:
    page = write_explorer(run)
    assert Path(page).name == "explore_subj01.html"
    data = payload(Path(page))
    voxel = unpacked(data["view"]["voxel"]).reshape(data["view"]["rows"], data["view"]["columns"])
    accuracy = unpacked(next(m for m in data["maps"] if m["name"] == "accuracy")["values"])
    np.testing.assert_allclose(accuracy, subject["accuracy"], rtol=1e-6)
    x = np.append(accuracy, np.nan)[voxel]
    middle = voxel.shape[1] // 2
    assert np.nanmax(x[:, :middle]) < 0 < np.nanmin(x[:, middle:])
    np.testing.assert_array_equal(unpacked(data["facts"]["flat_index"]), subject["flat_index"])
    circles = unpacked(data["field"]["values"]).reshape(-1, 3)
    np.testing.assert_allclose(circles, 8.4 * subject["rf"].values, rtol=1e-5)
    shares = unpacked(data["tuning"]["values"]).reshape(-1, 3)
    np.testing.assert_array_equal(shares.argmax(axis=1), subject["flat_index"] % 3)
    assert any(note.startswith("No responses and images") for note in data["notes"])


@pytest.mark.parametrize(("name", "dim", "title"), [
    ("unique_variance", "band", "Variance that a band alone explains"),
    ("category_weight", "category", "Weights of categories"),
])  # fmt: skip
def test_tuning_of_bands_and_categories(subject: xr.Dataset, tmp_path: Path, name: str, dim: str, title: str) -> None:
    values = np.random.default_rng(0).normal(size=(4, subject.sizes["voxel"]))
    results = subject.drop_vars(["weights", "layer"]).assign({name: ((dim, "voxel"), values)})
    results = results.assign_coords({dim: list("abcd")})
    write_results(tmp_path / "run", xr.DataTree.from_dict({"/": xr.Dataset(), "/subj01": results}))
    tuning = payload(Path(write_explorer(tmp_path / "run")))["tuning"]
    assert (tuning["title"], tuning["names"]) == (title, list("abcd"))
    found = unpacked(tuning["values"]).reshape(-1, 4) * unpacked(tuning["largest"])[:, None] / 127
    np.testing.assert_allclose(found, values.T, atol=np.abs(values).max() / 250)


@pytest.mark.parametrize("images", [5, 1000])
def test_images_and_another_source(run_on_store: tuple[Path, Path, Path], images: int) -> None:
    """`--images` limits the validation images; `--source` names the surfaces if the store's source is missing."""
    run, nsd, moved = run_on_store
    shown = CliRunner().invoke(app, ["explore", str(run), "--images", str(images), "--source", str(moved)])
    assert shown.exit_code == 0, shown.output
    data = payload(Path(shown.output.strip()))
    assert data["notes"][0].startswith("Flat maps of subj01")
    store = open_store(str(run.parent / "nsd.zarr"))
    trials = store.trials(1)
    shared = np.unique(trials["nsd_id"].values[trials["shared"].values])
    chosen = data["responses"]["nsd_id"]
    assert len(chosen) == min(images, len(shared))
    assert set(chosen) <= set(shared.tolist())
    found = unpacked(data["responses"]["measured"]["values"]).reshape(-1, len(chosen))
    found = found * unpacked(data["responses"]["measured"]["largest"])[:, None] / 127
    voxels = open_run(run)["subj01"]["flat_index"].values
    for column, image in enumerate(chosen):
        means = store.responses(1, nsd_id=[image]).mean("trial").to_series()
        by_voxel = dict(zip(store.voxels(1)["flat_index"].values.tolist(), means, strict=True))
        np.testing.assert_allclose(found[:, column], [by_voxel[one] for one in voxels.tolist()], atol=0.05)
    assert not (nsd / "nsddata").exists()
    without = payload(Path(write_explorer(run)))
    assert "No flat map" in without["notes"][0]


@pytest.fixture(scope="module")
def run_on_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A run with the voxels of a store in another order, and an NSD that has moved."""
    folder = tmp_path_factory.mktemp("explored")
    spec = SyntheticSpec(
        subjects=1, sessions=1, trials_per_session=60, image_size=32, vertices=642, shared_images=8, formats=("hdf5",)
    )
    nsd, moved = write_nsd(folder / "nsd", spec), folder / "moved"
    store = nsdflow.ingest(nsd, folder / "nsd.zarr", voxels="evc", image_size=32, cluster="threads", listen=None)
    nsd.rename(moved)
    voxels = store.voxels(1).isel(voxel=slice(None, None, -1))
    voxels = voxels.set_coords(list(voxels.data_vars)).drop_vars("hemisphere")
    results = voxels.assign(accuracy=("voxel", np.linspace(0, 1, voxels.sizes["voxel"])))
    results = results.assign_attrs(subject="subj01", space="func1pt8mm", source=str(nsd))
    write_results(folder / "run", xr.DataTree.from_dict({"/": xr.Dataset(), "/subj01": results}))
    (folder / "run/run.yaml").write_text(f"store: {{url: {folder / 'nsd.zarr'}}}\n")
    return folder / "run", nsd, moved


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"content": "0" * 16}, r"nsd\.zarr: holds other data than when .*run was made; restore that store"),
        ({"url": "/nowhere/nsd.zarr"}, r"/nowhere/nsd\.zarr: no store"),
    ],
)
def test_a_store_that_is_another_or_not_there(
    run_on_store: tuple[Path, Path, Path], change: dict[str, str], reason: str | None
) -> None:
    """Its responses and images are not shown as the run's; page and terminal say so."""
    run, _, moved = run_on_store
    record = run / "run.yaml"
    plain = record.read_text()
    identity = store_identity(str(run.parent / "nsd.zarr")) | change
    try:
        record.write_text(json.dumps({"store": identity}))
        shown = CliRunner().invoke(app, ["explore", str(run), "--source", str(moved)])
    finally:
        record.write_text(plain)
    assert shown.exit_code == 0, shown.output
    data = payload(Path(shown.stdout.strip()))
    assert ("responses" in data) == (reason is None)
    if reason is None:
        assert shown.stderr == ""
    else:
        (line,) = shown.stderr.splitlines()
        assert re.match(f"No responses and images: .*{reason}", line)
        assert line in data["notes"]


def test_rows_are_packed_to_a_127th_of_their_largest() -> None:
    values = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [np.nan, 3.0, -1.0]])
    packed = pack_rows(values)
    back = unpacked(packed["values"]).reshape(3, 3) * unpacked(packed["largest"])[:, None] / 127
    np.testing.assert_allclose(back, np.nan_to_num(values), atol=3 / 254)
    assert unpacked(pack(np.array([1.5], np.float32))).tolist() == [1.5]


def test_thumbnails_are_small_pictures() -> None:
    from io import BytesIO

    picture = Image.open(BytesIO(b64decode(thumbnail(np.full((3, 90, 90), 200, np.uint8)))))
    assert picture.size == (72, 72)


def test_one_line_for_what_cannot_be_explored(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"unknown subject 'subj09'; .*subj01"):
        write_explorer(run, "subj09")
    write_results(tmp_path / "empty", xr.DataTree.from_dict({"/": xr.Dataset(), "/history": xr.Dataset()}))
    with pytest.raises(MissingDataError, match="no voxels in its results"):
        write_explorer(tmp_path / "empty")
