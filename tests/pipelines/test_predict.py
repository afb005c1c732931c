"""Predictions out of core: same bits as in memory, complete files, resumption, any images."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client
from PIL import Image

import nsdflow
from nsdflow.errors import ConfigError, MissingDataError, RunError, SourceError
from nsdflow.fit.gnet.evaluate import predict
from nsdflow.nsd.images import resize_images
from nsdflow.pipelines.gnet.saved import load_gnet
from nsdflow.pipelines.predict import tasks as workflow
from nsdflow.runs.folder import RunFolder
from nsdflow.store.shard_format import write_region

BLOCKS: Mapping[str, Any] = {"images_per_task": 40, "batch_size": 20, "threads": 1}


@pytest.fixture(scope="module")
def runs(small_gnet8j: Path, small_gnet8r: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A joint run, and one with several groups of voxels."""
    folder = tmp_path_factory.mktemp("runs")
    for run in (small_gnet8j, small_gnet8r):
        shutil.copytree(run, folder / run.name)
    return str(folder)


def test_out_of_core_has_the_bits_of_in_memory(small_store: str, runs: str, threads_client: Client) -> None:
    tree = nsdflow.run("predict", store=small_store, runs=runs, client=threads_client, **BLOCKS)
    store, saved = nsdflow.open_store(small_store), load_gnet(RunFolder(f"{runs}/gnet8j"))
    assert set(tree.children) == set(store.subjects)
    for subject in store.subjects:
        found = tree[subject]["predictions"]
        ids = np.unique(store.trials(subject)["nsd_id"])
        assert found.dims == ("image", "voxel")
        np.testing.assert_array_equal(found["nsd_id"], ids)
        np.testing.assert_array_equal(found["flat_index"], store.voxels(subject)["flat_index"])
        images = torch.from_numpy(store.images(ids).values)
        expected = predict(saved.encoder, saved.readouts[subject], images, batch_size=20).numpy()
        np.testing.assert_array_equal(found.values, expected)
        assert found.nsd.to_volume().dims == ("image", "i", "j", "k")
        files = list(Path(runs, "predict", "results.zarr", subject, "predictions", "c").rglob("*"))
        assert sum(file.is_file() for file in files) == -(-len(ids) // 40)
    assert not Path(runs, "predict", "parts").exists()


def test_each_group_of_voxels_is_predicted_by_its_own_trunk(
    small_store: str, runs: str, threads_client: Client
) -> None:
    tree = nsdflow.run(
        "predict", store=small_store, runs=runs, client=threads_client,
        name="all", model="gnet8r", images="all", subjects=[2], **BLOCKS,
    )  # fmt: skip
    assert set(tree.children) == {"subj02"}
    found, images = tree["subj02"]["predictions"], nsdflow.open_store(small_store).images()
    assert found.sizes["image"] == images.sizes["image"]
    for group in ("V1", "V2"):
        saved = load_gnet(RunFolder(f"{runs}/gnet8r"), group)
        expected = predict(saved.encoder, saved.readouts["subj02"], torch.from_numpy(images.values), batch_size=20)
        np.testing.assert_array_equal(found.values[:, found["part"].values == group], expected.numpy())


def test_files_of_a_folder_are_prepared_as_the_stimuli_were(
    small_store: str, runs: str, threads_client: Client, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    for name, image in zip(("a.png", "b.PNG", "c.png"), pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "readme.txt").write_text("no image")
    settings = {"name": "own", "images": str(tmp_path), "subjects": [1], **BLOCKS}
    tree = nsdflow.run("predict", store=small_store, runs=runs, client=threads_client, **settings)
    assert list(tree["subj01"]["file"].values) == ["a.png", "b.PNG", "c.png"]
    saved = load_gnet(RunFolder(f"{runs}/gnet8j"))
    expected = predict(saved.encoder, saved.readouts["subj01"], torch.from_numpy(resize_images(pixels, 67)))
    np.testing.assert_array_equal(tree["subj01"]["predictions"], expected.numpy())


def test_an_interrupted_run_fills_only_what_is_missing(
    small_store: str, runs: str, threads_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"name": "again", "subjects": [1], **BLOCKS, "images_per_task": 20}
    calls = itertools.count()

    def break_down(*arguments: Any) -> None:
        if next(calls) == 2:
            raise OSError("pulled the plug")
        write_region(*arguments)

    monkeypatch.setattr(workflow, "write_region", break_down)
    with pytest.raises(RunError, match="pulled the plug"):
        nsdflow.run("predict", store=small_store, runs=runs, client=threads_client, **settings)
    assert not RunFolder(f"{runs}/again").finished
    before = {path: path.stat().st_mtime_ns for path in Path(runs, "again").rglob("c/*/*")}
    assert before
    monkeypatch.undo()
    tree = nsdflow.run("predict", store=small_store, runs=runs, client=threads_client, **settings)
    assert np.isfinite(tree["subj01"]["predictions"]).all()
    moved = {Path(str(path).replace("parts/", "")): time for path, time in before.items()}
    assert {path: path.stat().st_mtime_ns for path in moved} == moved, "what was there is not written again"


def test_mistakes_are_one_clear_line(small_store: str, runs: str, threads_client: Client, tmp_path: Path) -> None:
    where = {"store": small_store, "runs": runs, "client": threads_client}
    with pytest.raises(ConfigError, match="must be a multiple of batch_size"):
        nsdflow.run("predict", **where, name="x", images_per_task=150)
    with pytest.raises(MissingDataError, match="no such folder; images is subject, all, or a folder"):
        nsdflow.run("predict", **where, name="x", images="subjects")
    with pytest.raises(MissingDataError, match="no PNG or JPEG file in it"):
        nsdflow.run("predict", **where, name="x", images=str(tmp_path))
    with pytest.raises(MissingDataError, match="no such run"):
        nsdflow.run("predict", **where, name="y", model="gnet9")
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(SourceError, match=r"a\.png: not an image"):
        nsdflow.run("predict", **where, name="z", images=str(tmp_path))
    (tmp_path / "a.png").unlink()
    Image.new("RGB", (80, 80), (200, 30, 90)).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:80])
    (tmp_path / "folder.png").mkdir()  # is no file
    with pytest.raises(SourceError, match=r"b\.png: .*; replace it, or remove it from the folder"):
        nsdflow.run("predict", **where, name="w", images=str(tmp_path))


def test_a_picture_that_was_mended_is_predicted_again(
    small_store: str, runs: str, threads_client: Client, tmp_path: Path
) -> None:
    """The first block is done when the second fails; then a picture of each block is another, and one is new."""
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()

    def draw(*names: int) -> None:
        for name in names:
            Image.fromarray(rng.integers(0, 256, (67, 67, 3), dtype=np.uint8)).save(folder / f"{name}.png")

    def attempt(where: str) -> xr.DataTree:
        return nsdflow.run(
            "predict", store=small_store, runs=str(tmp_path / where), client=threads_client, model=f"{runs}/gnet8j",
            images=str(folder), subjects=[2], images_per_task=2, batch_size=2, threads=1,
        )  # fmt: skip

    draw(1, 2, 3, 4)
    (folder / "4.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"4\.png"):
        attempt("mended")
    draw(1, 4)
    mended = attempt("mended")
    assert mended.identical(attempt("new"))
    draw(5)
    with pytest.raises(RunError, match=rf"the file {folder} holds other data"):
        attempt("mended")
