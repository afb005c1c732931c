"""The same ingestion again, and subjects and sessions that are added to a store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nsdflow.config.storage import Layout
from nsdflow.errors import StoreError
from nsdflow.ingestion.growth import exchange
from nsdflow.ingestion.ingest import carry_out
from nsdflow.nsd import betas as nsd_betas
from nsdflow.store import open_store
from nsdflow.store.shard_format import open_sharded

SMALL = {"voxels": "evc"}


def test_the_same_again_does_nothing(source, plan, client, contents, tmp_path: Path) -> None:
    target = tmp_path / "nsd.zarr"
    first = carry_out(plan(source, target, subjects=[2], images="none", **SMALL), client)
    before = contents(first.url)
    (tmp_path / "nsd.zarr.building").mkdir()  # left by a command that was killed after its last rename
    planned = plan(source, target, subjects="2", images="none", **SMALL)
    assert planned.finished
    assert planned.tasks == ()
    assert "holds all of this already" in planned.notes[0]
    assert contents(carry_out(planned, client).url) == before
    assert [path.name for path in tmp_path.iterdir()] == ["nsd.zarr"]


def test_of_two_that_began_together_the_later_is_told(source, whole, plan, tmp_path: Path) -> None:
    """Both planned before the store was there; one has finished when the other gets its turn."""
    target = tmp_path / "nsd.zarr"
    planned = plan(source, target)
    shutil.copytree(whole.url, target)
    with pytest.raises(StoreError, match="exists; another command has just finished it"):
        carry_out(planned, None)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"subjects": [1]}, {"subjects": [1, 2]}),
        ({"subjects": [2]}, {"subjects": [1]}),
        ({"sessions": "1-2"}, {}),
        ({"subjects": [1], "sessions": [1]}, {"sessions": "1-2"}),
    ],
)
def test_a_grown_store_is_as_if_made_at_once(
    source, plan, client, contents, tmp_path: Path, monkeypatch, first, then
) -> None:
    """The bytes are equal, and only new sessions are read."""
    target = tmp_path / "nsd.zarr"
    old = carry_out(plan(source, target, **SMALL | first), client)
    lazy = old.responses(old.subjects[0], zscore=False)
    known = lazy.compute()
    planned = plan(source, target, **SMALL | then)
    assert "added to the store" in "\n".join(planned.notes)
    read: list[tuple[str, int]] = []
    header = nsd_betas.read_session_header

    def noted(origin, subject, session, **options):
        read.append((subject, session))
        return header(origin, subject, session, **options)

    monkeypatch.setattr("nsdflow.ingestion.tasks.betas.read_session_header", noted)
    grown = carry_out(planned, client)
    manifest = json.loads((target / "manifest.json").read_text())
    sessions = {name: set(record["sessions"]) for name, record in manifest["subjects"].items()}
    had = {name: set(numbers) for name, numbers in manifest["before"].items()}
    assert set(read) == {(name, n) for name, all_ in sessions.items() for n in all_ - had.get(name, set())}
    subjects = [int(name[-1]) for name in sessions]
    wanted = {1: [1, 2, 3], 2: [1, 2]} if "sessions" not in then else {1: [1, 2], 2: [1, 2]}
    assert {int(name[-1]): sorted(numbers) for name, numbers in sessions.items()} == {n: wanted[n] for n in subjects}
    limit = {"sessions": "1-2"} if "sessions" in then else {}
    fresh = carry_out(plan(source, tmp_path / "fresh" / "nsd.zarr", subjects=subjects, **SMALL | limit), client)
    assert contents(grown.url) == contents(fresh.url)
    xr.testing.assert_identical(lazy.compute(), known)  # stores opened before still read
    assert [path.name for path in tmp_path.iterdir() if "fresh" not in path.name] == ["nsd.zarr"]


def test_growth_recuts_where_the_file_budget_asks(source, plan, client, contents, tmp_path: Path) -> None:
    # some 223 files hold metadata, coordinates and statistics; what is left over is for shards
    layout = Layout(chunk_voxels=64, file_budget=229, shard_images=20)
    settings = {"subjects": [1], "voxels": "brain", "images": "none", "layout": layout}
    target = tmp_path / "nsd.zarr"
    one = carry_out(plan(source, target, sessions=1, **settings), client)
    shards = len(list(Path(one.url).glob("subj01/betas/c/0/*")))
    grown = carry_out(plan(source, target, **settings), client)
    fresh = carry_out(plan(source, tmp_path / "fresh.zarr", **settings), client)
    assert contents(grown.url) == contents(fresh.url)
    assert shards >= len(list(Path(grown.url).glob("subj01/betas/c/0/*")))


def test_other_settings_are_refused(source, plan, client, tmp_path: Path) -> None:
    target = tmp_path / "nsd.zarr"
    carry_out(plan(source, target, subjects=[2], sessions=[2], images="none", **SMALL), client)
    with pytest.raises(StoreError, match=r"exists with other voxels \(evc before, visual now\); choose another store"):
        plan(source, target, subjects=[2], images="none", voxels="visual")
    with pytest.raises(StoreError, match=r"subj02 has sessions 2, and session 1 would have to stand before"):
        plan(source, target, subjects=[2], images="none", **SMALL)


def test_a_killed_growth_continues(source, plan, client, contents, tmp_path: Path) -> None:
    target = tmp_path / "nsd.zarr"
    old = carry_out(plan(source, target, subjects=[1], sessions=1, images="none", **SMALL), client)
    before = contents(old.url)
    planned = plan(source, target, subjects=[1], images="none", **SMALL)
    for task in planned.tasks[:3]:
        task.call()
    assert contents(target) == before
    grown = carry_out(plan(source, target, subjects=[1], images="none", **SMALL), client)
    assert np.unique(grown.trials(1)["session"]).tolist() == [1, 2, 3]


def test_exchange_by_two_renames(tmp_path: Path, monkeypatch) -> None:
    """On a system that cannot exchange two names."""
    import ctypes

    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    exchange(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old/file").read_text() == "new"
    assert (tmp_path / "new/file").read_text() == "old"


def test_a_store_that_was_made_by_another_program(source, plan, tmp_path: Path) -> None:
    target = tmp_path / "nsd.zarr"
    target.mkdir()
    (target / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="is not a store that ingest made"):
        plan(source, target, **SMALL)
    shutil.rmtree(target)
    assert not plan(source, target, subjects=[1], **SMALL).finished
    with pytest.raises(Exception, match="no store there"):
        open_store(target)


def test_an_atlas_that_came_later_is_added(own_source: Path, plan, client, contents, tmp_path: Path) -> None:
    target = tmp_path / "nsd.zarr"
    settings = {"subjects": [2], "images": "none", **SMALL}
    old = carry_out(plan(own_source, target, **settings), client)
    known, betas = old.voxels(2), old.responses(2, zscore=False).compute()
    shards = {path.name: path.stat().st_ino for path in (target / "subj02/betas/c/0").rglob("*") if path.is_file()}
    folder = own_source / "nsddata/ppdata/subj02/func1pt8mm/roi"
    shutil.copy(folder / "nsdgeneral.nii.gz", folder / "mine.nii.gz")
    planned = plan(own_source, target, **settings)
    assert "added to the store, which keeps what it has: coordinates of subj02 mine.nii.gz" in "\n".join(planned.notes)
    grown = carry_out(planned, client)
    voxels = grown.voxels(2)
    assert voxels["mine"].values.tolist() == voxels["nsdgeneral"].values.tolist()
    xr.testing.assert_identical(voxels.drop_vars("mine"), known)
    xr.testing.assert_identical(grown.responses(2, zscore=False).compute().drop_vars("mine"), betas)
    now = {path.name: path.stat().st_ino for path in (target / "subj02/betas/c/0").rglob("*") if path.is_file()}
    assert now == shards, "betas are linked, not written again"
    assert plan(own_source, target, **settings).finished
    fresh = carry_out(plan(own_source, tmp_path / "fresh.zarr", **settings), client)
    assert contents(fresh.url) == contents(grown.url)


def test_default_sizes_that_changed_do_not_stop_growth(source, plan, client, tmp_path: Path, monkeypatch) -> None:
    """The store keeps its own, also one of a version that wrote the default number of images into its manifest."""
    target, layout = tmp_path / "nsd.zarr", Layout(chunk_voxels=16)
    monkeypatch.setattr("nsdflow.store.shard_sizes.SHARD_BYTES", 4 << 10)
    monkeypatch.setattr("nsdflow.store.shard_sizes.SHARD_IMAGES", 20)
    settings = {"subjects": [2], "layout": layout, **SMALL}
    old = carry_out(plan(source, target, sessions=1, **settings), client)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["settings"]["layout"]["shard_images"] = 20
    (target / "manifest.json").write_text(json.dumps(manifest))
    shape = open_sharded(f"{old.url}/subj02/betas").shards
    assert shape[1] > 1
    monkeypatch.undo()
    with pytest.raises(StoreError, match=r"layout \(shard_images: 20 before, 30 now\)"):
        plan(source, target, **settings | {"layout": Layout(chunk_voxels=16, shard_images=30)})
    grown = carry_out(plan(source, target, **settings), client)
    assert open_sharded(f"{grown.url}/subj02/betas").shards == (2, shape[1])
    fresh = carry_out(plan(source, tmp_path / "fresh.zarr", **settings), client)
    assert open_sharded(f"{fresh.url}/subj02/betas").shards == (2, 1)
    xr.testing.assert_identical(grown.responses(2).compute(), fresh.responses(2).compute())
    xr.testing.assert_identical(grown.images().compute(), fresh.images().compute())
