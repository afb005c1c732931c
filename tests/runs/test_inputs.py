"""What a run reads besides its store: it continues, and is reopened, only while the content is the recorded one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from PIL import Image

from nsdflow.config.pipeline import PipelineBase
from nsdflow.errors import RunError
from nsdflow.io.tensors import save_tensors
from nsdflow.pipelines.banded.settings import BandedRidgePipeline
from nsdflow.pipelines.features.settings import FeaturesPipeline
from nsdflow.pipelines.features.source import write_features
from nsdflow.pipelines.fwrf.settings import FwrfPipeline
from nsdflow.pipelines.gnet.settings import GNetPipeline
from nsdflow.pipelines.predict.settings import PredictPipeline
from nsdflow.pipelines.ridge.settings import RidgePipeline
from nsdflow.pipelines.semantic.settings import SemanticPipeline
from nsdflow.pipelines.tables import TablesPipeline
from nsdflow.pipelines.transfer import TransferPipeline
from nsdflow.pipelines.tuning import TuningPipeline
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.results import write_results


def begun(config: PipelineBase, store: str, runs: Path) -> RunFolder:
    """A run with a task that is done."""
    run = RunFolder.of(config, str(runs))
    run.begin(config, store)
    (runs / config.name / "tasks").mkdir()
    (runs / config.name / "tasks" / "first.json").write_text("{}")
    return run


def npy(place: Path, value: int) -> Path:
    np.save(place / "f.npy", np.full((4, 2), value))
    np.save(place / "f.nsd_id.npy", np.arange(4))
    return place / "f.npy"


def npy_images(place: Path, value: int) -> Path:
    np.save(place / "f.npy", np.zeros((4, 2)))
    np.save(place / "f.nsd_id.npy", np.arange(4) + value)
    return place / "f.npy"


def zarr(place: Path, value: int) -> Path:
    features = xr.DataArray(np.full((4, 2), value), dims=("image", "feature"), coords={"nsd_id": ("image", range(4))})
    return Path(write_features(str(place / "f.zarr"), features))


def pictures(place: Path, value: int) -> Path:
    (place / "pictures").mkdir(exist_ok=True)
    (place / "pictures" / ".hidden").write_text(str(value))
    (place / "pictures" / "notes.txt").write_text(str(value))
    Image.new("L", (8, 8), value).save(place / "pictures" / "one.png")
    return place / "pictures"


def more_pictures(place: Path, value: int) -> Path:
    (place / "pictures").mkdir(exist_ok=True)
    for number in range(value):
        Image.new("L", (8, 8)).save(place / "pictures" / f"{number}.png")
    return place / "pictures"


def weights(place: Path, value: int) -> Path:
    torch.save({"weight": torch.full((3,), float(value))}, place / "weights.pth")
    return place / "weights.pth"


def ridge(path: Path) -> PipelineBase:
    return RidgePipeline(name="one", features=str(path))


def bands(path: Path) -> PipelineBase:
    return BandedRidgePipeline(name="one", bands={"a": {"features": "features"}, "b": {"features": str(path)}})


def predict(path: Path) -> PipelineBase:
    return PredictPipeline(name="one", images=str(path))


FILES: list[tuple[Callable[[Path, int], Path], Callable[[Path], PipelineBase]]] = [
    (npy, ridge),
    (npy_images, ridge),
    (zarr, ridge),
    (npy, bands),
    (pictures, predict),
    (more_pictures, predict),
    (weights, lambda path: GNetPipeline(name="one", prefilter_weights=str(path))),
    (weights, lambda path: FeaturesPipeline(name="one", feature_weights=str(path))),
    (weights, lambda path: FwrfPipeline(name="one", feature_weights=str(path))),
]


@pytest.mark.parametrize(("write", "pipeline"), FILES)
def test_a_file_with_other_content_is_noticed(
    small_store: str,
    tmp_path: Path,
    write: Callable[[Path, int], Path],
    pipeline: Callable[[Path], PipelineBase],
) -> None:
    path = write(tmp_path, 2)
    config = pipeline(path)
    run = begun(config, small_store, tmp_path)
    write_results(run.path, xr.DataTree.from_dict({"/history": xr.Dataset({"loss": ("epoch", [1.0])})}))
    run.check(config, small_store)
    for file in [path, *path.rglob("*")]:
        os.utime(file, ns=(10**18, 10**18))
    run.check(config, small_store)  # written at another time, but the same
    write(tmp_path, 3)
    with pytest.raises(
        RunError, match=r"one holds a run with other settings \(the file \S+ holds other data\)"
    ) as error:
        run.check(config, small_store)
    assert str(path) in str(error.value)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "f.nsd_id.npy").unlink(missing_ok=True)
    run.check(config, small_store)  # what a finished run has read may be gone


def test_files_that_a_pipeline_does_not_read_do_not_count(small_store: str, tmp_path: Path) -> None:
    path = pictures(tmp_path, 2)
    config = predict(path)
    run = begun(config, small_store, tmp_path)
    (path / "notes.txt").write_text("others")
    (path / ".hidden").unlink()
    assert run.check(config, small_store) == []


def make_run(folder: Path, **change: Any) -> None:
    """A finished run: results, a model, and a record."""
    record = {"created": "now", "pipeline": {"kind": "gnet", "width": 4}, "store": {"url": "nsd.zarr", "content": "a"}}
    write_results(folder, xr.DataTree.from_dict({"/history": xr.Dataset({"loss": ("epoch", [1.0])})}))
    save_tensors(str(folder / "model.safetensors"), {"bias": torch.full((2,), float(change.pop("model", 0)))})
    (folder / "run.yaml").write_text(yaml.safe_dump(record | change))


RUNS = [
    PredictPipeline(name="one", model="gnet8j"),
    TuningPipeline(name="one", model="gnet8j"),
    TransferPipeline(name="one", trunks="gnet8j"),
    RidgePipeline(name="one", features="gnet8j"),
    TablesPipeline(name="one", models=("gnet8j",), transfers={}),
]
CHANGES: list[dict[str, Any]] = [
    {"model": 1},
    {"pipeline": {"kind": "gnet", "width": 8}},
    {"store": {"url": "nsd.zarr", "content": "b"}},
    {"network": {"weights_sha256": "other"}},
    {"inputs": {"file weights.pth": {"content": "other"}}},
]


@pytest.mark.parametrize("config", RUNS, ids=lambda config: config.kind)
def test_an_earlier_run_that_was_made_again_is_noticed(small_store: str, tmp_path: Path, config: PipelineBase) -> None:
    make_run(tmp_path / "gnet8j")
    run = begun(config, small_store, tmp_path)
    make_run(tmp_path / "gnet8j", created="later")
    run.check(config, small_store)  # the same settings, data and model
    for change in CHANGES:
        make_run(tmp_path / "gnet8j", **change)
        with pytest.raises(RunError, match="the run gnet8j holds other data"):
            run.check(config, small_store)
    shutil.rmtree(tmp_path / "gnet8j")
    run.check(config, small_store)


@pytest.mark.parametrize(("write", "pipeline"), [(npy, ridge), (npy, bands), (pictures, predict)])
def test_tasks_that_know_their_files_run_again(
    small_store: str,
    tmp_path: Path,
    write: Callable[[Path, int], Path],
    pipeline: Callable[[Path], PipelineBase],
) -> None:
    path = write(tmp_path, 2)
    config = pipeline(path)
    run = begun(config, small_store, tmp_path)
    write(tmp_path, 3)
    assert run.check(config, small_store) == [f"file {path}"]
    run.begin(config, small_store)
    assert run.check(config, small_store) == []


def test_an_unfinished_training_does_not_take_other_weights(small_store: str, tmp_path: Path) -> None:
    path = weights(tmp_path, 2)
    config = GNetPipeline(name="one", prefilter_weights=str(path))
    run = begun(config, small_store, tmp_path)
    weights(tmp_path, 3)
    with pytest.raises(RunError, match="holds other data"):
        run.begin(config, small_store)


def test_a_run_of_which_nothing_is_done_takes_the_new_content(small_store: str, tmp_path: Path) -> None:
    config, run = ridge(npy(tmp_path, 1)), RunFolder(str(tmp_path / "one"))
    run.begin(config, small_store)
    before = run.record()
    npy(tmp_path, 2)
    assert run.check(config, small_store) == [f"file {tmp_path / 'f.npy'}"]
    run.begin(config, small_store)
    assert run.check(config, small_store) == []
    assert run.record() | {"inputs": None} == before | {"inputs": None}


def test_tables_notice_a_run_that_was_missing(small_store: str, tmp_path: Path) -> None:
    config = TablesPipeline(name="one")
    run = begun(config, small_store, tmp_path)
    make_run(tmp_path / "gnet8r")
    with pytest.raises(RunError, match="the run gnet8r holds other data"):
        run.check(config, small_store)


def test_annotations_that_were_replaced_are_noticed(small_store: str, tmp_path: Path) -> None:
    store = tmp_path / "nsd.zarr"
    shutil.copytree(small_store, store)
    (store / "annotations").mkdir()
    group = store / "annotations" / "zarr.json"
    group.write_text(json.dumps({"attributes": {"files": {"instances_train2017.json": "1 byte"}}}))
    configs = [SemanticPipeline(name="a"), RidgePipeline(name="b", features="annotations")]
    configs += [BandedRidgePipeline(name="c", bands={"a": {"features": "annotations"}})]
    for config in configs:
        begun(config, str(store), tmp_path)
    group.write_text(json.dumps({"attributes": {"files": {"instances_train2017.json": "2 bytes"}}}))
    for config in configs:
        with pytest.raises(RunError, match="the group annotations of the store holds other data"):
            RunFolder.of(config, str(tmp_path)).check(config, str(store))


@pytest.mark.parametrize("inputs", [None, {}, {"file f.npy": None}, {"file f.npy": {"content": [1]}}, "text", [1]])
def test_a_record_may_say_anything(small_store: str, tmp_path: Path, inputs: Any) -> None:
    config = ridge(npy(tmp_path, 1))
    run = begun(config, small_store, tmp_path)
    write_results(run.path, xr.DataTree.from_dict({"/history": xr.Dataset({"loss": ("epoch", [1.0])})}))
    record = yaml.safe_load((tmp_path / "one/run.yaml").read_text())
    (tmp_path / "one/run.yaml").write_text(yaml.safe_dump(record | {"inputs": inputs}))
    with pytest.raises(RunError, match="one"):
        run.check(config, small_store)


def test_runs_of_earlier_versions_recorded_no_inputs(small_store: str, tmp_path: Path) -> None:
    config = ridge(npy(tmp_path, 1))
    run = begun(config, small_store, tmp_path)
    record = yaml.safe_load((tmp_path / "one/run.yaml").read_text())
    del record["inputs"]
    (tmp_path / "one/run.yaml").write_text(yaml.safe_dump(record))
    npy(tmp_path, 2)
    assert run.check(config, small_store) == []
