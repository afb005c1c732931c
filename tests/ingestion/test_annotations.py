"""Annotations in a store: written from COCO's files, selected by category."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import nsdflow
from nsdflow.cli.app import app
from nsdflow.config.storage import Layout
from nsdflow.errors import MissingDataError, StoreError
from nsdflow.ingestion.annotations import add_annotations, plan_annotations
from nsdflow.ingestion.ingest import carry_out
from nsdflow.nsd.design import read_stimulus_info
from nsdflow.nsd.source import open_source
from nsdflow.store import Store
from nsdflow.synthetic.experiment.design import draw_experiment, stim_info
from nsdflow.synthetic.experiment.scenes import CATEGORIES, Scene, category_areas
from nsdflow.synthetic.published.coco import annotating
from nsdflow.synthetic.truth import read_spec

#: As the store was made.
SETTINGS: dict[str, Any] = {
    "voxels": "brain",
    "image_size": 32,
    "layout": Layout(chunk_voxels=256, shard_voxels=1024, shard_images=20),
}
NAMES = [category.name for category in CATEGORIES]


@pytest.fixture(scope="module")
def coco(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotation files of all images of ``source``."""
    spec, folder = read_spec(source), tmp_path_factory.mktemp("annotated")
    with annotating(folder, stim_info(spec, draw_experiment(spec)), spec.image_size) as annotator:
        for image in range(spec.image_count):
            annotator.add(image, Scene.of(spec.seed, image, spec.image_size))
    return folder / "coco/annotations"


@pytest.fixture
def store(whole: Store, tmp_path: Path) -> str:
    """A copy of a finished store."""
    return str(shutil.copytree(whole.url, tmp_path / "nsd.zarr"))


def test_a_store_knows_what_its_images_show(store: str, source: Path, coco: Path, contents) -> None:
    spec, before = read_spec(source), contents(store)
    opened = nsdflow.ingest(source, store, annotations=coco, **SETTINGS)
    table = opened.annotations(masks=True)
    areas = category_areas(spec.seed, table["nsd_id"].values.tolist(), spec.image_size)
    np.testing.assert_allclose(table["area"].sel(category=NAMES), areas, atol=1e-6)
    assert table["mask"].shape[1:] == (32, 32)
    assert table["mask"][:9].any(("y", "x")).values.sum() > 5
    responses = opened.responses(opened.subjects[0], category={"soil": 0.3})
    soil = table["area"].sel(category="soil", nsd_id=responses["nsd_id"].values)
    assert 0 < responses.sizes["trial"] < opened.trials(1).sizes["trial"]
    assert (soil.values >= 0.3).all()
    after = contents(store)
    changed = {name for name, content in before.items() if after[name] != content}
    assert changed == {"zarr.json"}, "which lists the new group"
    assert {Path(name).parts[0] for name in after.keys() - before.keys()} == {"annotations"}
    assert len(after) - len(before) < 60
    again = add_annotations(store, open_source(source), coco)
    assert contents(again.url) == after


def test_annotations_are_a_task_or_added_later_with_one_result(
    source: Path, coco: Path, plan, client, contents, tmp_path: Path
) -> None:
    """All bytes are equal, except the order of the groups in the root; any Zarr reader finds the group."""
    made: dict[bool, Store] = {}
    for asked in (True, False):
        target, settings = tmp_path / f"{asked}.zarr", {"voxels": "evc", "subjects": [2]}
        planned = plan(source, target, annotations=coco if asked else None, **settings)
        assert ("annotations" in {task.key for task in planned.tasks}) is asked
        made[asked] = carry_out(planned, client)
        if not asked:
            again = plan(source, target, annotations=coco, **settings)
            assert again.finished
            assert again.notes[-1].startswith("annotations: 8 files of COCO (")
            made[asked] = carry_out(again, client)
    tree = xr.open_datatree(made[False].url, engine="zarr", consolidated=True)
    assert set(tree.children) == {"subj02", "stimuli", "annotations"}
    np.testing.assert_array_equal(tree["annotations/area"], made[False].annotations()["area"])
    tree.close()
    there, here = contents(made[True].url), contents(made[False].url)
    roots = [json.loads(files.pop("zarr.json"))["consolidated_metadata"]["metadata"] for files in (there, here)]
    assert roots[0] == roots[1]
    assert there == here


def test_a_store_that_grows_keeps_its_annotations(source: Path, coco: Path, plan, client, tmp_path: Path) -> None:
    """New images are annotated too; without COCO's files, growing the store is refused in one line."""
    target, files = tmp_path / "nsd.zarr", Path(shutil.copytree(coco, tmp_path / "coco"))
    settings = {"voxels": "evc", "images": "none"}
    first = carry_out(plan(source, target, subjects=[1], sessions=[1], annotations=files, **settings), client)
    assert first.annotations()["nsd_id"].values.tolist() == np.unique(first.trials(1)["nsd_id"]).tolist()
    moved = files.rename(tmp_path / "moved")
    with pytest.raises(
        StoreError,
        match=r"has annotations, which must describe the new images too \(.*none of "
        r"instances_.*give their folder with --annotations, or remove the folder annotations",
    ) as error:
        plan(source, target, subjects=[1], sessions=[1, 2], **settings)
    assert "\n" not in str(error.value)
    moved.rename(files)
    planned = plan(source, target, subjects=[1], sessions=[1, 2], **settings)
    assert "annotations" in {task.key for task in planned.tasks}
    grown = carry_out(planned, client)
    assert grown.annotations()["nsd_id"].values.tolist() == np.unique(grown.trials(1)["nsd_id"]).tolist()
    assert grown.annotations().sizes["image"] > first.annotations().sizes["image"]
    (files / "captions_val2017.json").write_text("{}")
    with pytest.raises(StoreError, match=r"its files in .* have changed"):
        plan(source, target, **settings)


def test_a_store_in_a_bucket_gets_the_same(store: str, source: Path, coco: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(store, "/annotated/nsd.zarr", recursive=True)
    try:
        there = add_annotations("memory://annotated/nsd.zarr", open_source(source), coco)
        here = add_annotations(store, open_source(source), coco)
        assert here.annotations().identical(there.annotations())
        tree = xr.open_datatree("memory://annotated/nsd.zarr", engine="zarr", consolidated=True)
        assert "annotations" in tree.children
        np.testing.assert_array_equal(*(one.annotations(masks=16)["mask"][:5].values for one in (here, there)))
    finally:
        memory.rm("/annotated", recursive=True)


def test_one_line_before_anything_is_read(store: str, source: Path, coco: Path, tmp_path: Path) -> None:
    line = plan_annotations(open_source(source), coco).describe()
    assert line.startswith("annotations: 8 files of COCO (")
    with pytest.raises(MissingDataError, match=r"none of instances_train2017\.json, .*name their folder"):
        plan_annotations(open_source(source), tmp_path)
    arguments = ["ingest", "--source", str(source), "--store", str(tmp_path / "new.zarr"), "--dry-run"]
    shown = CliRunner().invoke(app, [*arguments, "--annotations", str(coco)])
    assert shown.exit_code == 0
    assert line in shown.output
    assert not (tmp_path / "new.zarr").exists()
    add_annotations(store, open_source(source), coco)
    other = shutil.copytree(coco, tmp_path / "other")
    (other / "captions_val2017.json").unlink()
    with pytest.raises(StoreError, match="has annotations from other files; remove its folder annotations"):
        add_annotations(store, open_source(source), other)


def test_a_folder_without_crops(own_source: Path, coco: Path) -> None:
    (own_source / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").unlink()
    assert read_stimulus_info(open_source(own_source)) is None
    with pytest.raises(MissingDataError, match=r"no nsd_stim_info_merged\.csv, which has the crop of every image"):
        plan_annotations(open_source(own_source), coco)
