"""Killed ingestions leave nothing visible, and resumed ones equal uninterrupted ones."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdflow.config.storage import Layout
from nsdflow.engine.execute import run_task
from nsdflow.errors import MissingDataError, SourceError, StoreError
from nsdflow.ingestion.ingest import carry_out
from nsdflow.io.folders import list_files
from nsdflow.nsd.layout import roi_paths
from nsdflow.store import open_store

# A driver with its worker in the same process; it kills itself (-9) at a chosen moment.
DRIVER = """
import json, os, signal, sys
from nsdflow.cluster.connect import connect
from nsdflow.config.storage import Layout
from nsdflow.store import build, shard_format
from nsdflow.ingestion.tasks import betas as ingest_tasks
from nsdflow.ingestion.ingest import carry_out, plan_ingest

source, store, settings, moment, count = *sys.argv[1:3], *map(json.loads, sys.argv[3:6])
settings["layout"] = Layout(**settings["layout"])
seen = 0

def count_down():
    global seen
    seen += 1
    if seen == count:
        os.kill(os.getpid(), signal.SIGKILL)

def listen(event):
    if moment == "task" and event["kind"] == "task-done":
        count_down()

def counted(chunks):
    for chunk in chunks:
        yield chunk
        count_down()

if moment == "chunk":
    write = shard_format.write_shard
    ingest_tasks.write_shard = lambda array, position, chunks: write(array, position, counted(chunks))
if moment == "root":
    build._write_json = lambda url, value: count_down()
if moment == "published":
    remove = build.remove
    build.remove = lambda url: count_down() if url.endswith(".building") else remove(url)

with connect("threads", threads_per_worker=1, dashboard=None) as client:
    carry_out(plan_ingest(source, store, **settings), client, listen=listen)
"""


def killed_driver(source: Path, store: Path, settings: dict, moment: str, count: int) -> None:
    arguments = [str(source), str(store), json.dumps(settings), json.dumps(moment), json.dumps(count)]
    done = subprocess.run([sys.executable, "-c", DRIVER, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize(("moment", "count"), [("task", 4), ("chunk", 13), ("root", 2), ("published", 1)])
def test_a_killed_ingestion_resumes(source, whole, plan, client, contents, tmp_path: Path, moment, count) -> None:
    target = tmp_path / "nsd.zarr"
    layout = {"chunk_voxels": 256, "shard_voxels": 1024, "shard_images": 20}
    killed_driver(source, target, {"image_size": 32, "voxels": "brain", "layout": layout}, moment, count)
    if moment != "published":
        with pytest.raises(MissingDataError, match="unfinished build"):
            open_store(target)
        assert any(name.endswith(".tmp") for name in list_files(str(tmp_path))) == (moment == "chunk")
        planned = plan(source, target)
        missing = [task.key for task in planned.missing()]
        assert (0 < len(missing) < len(planned.tasks)) or moment == "root"
        events: list[dict] = []
        carry_out(planned, client, listen=events.append)
        assert sorted(e["key"] for e in events if e["kind"] == "task-done") == sorted(missing)
        assert [path.name for path in tmp_path.iterdir()] == ["nsd.zarr"]
    # killed after the rename: the store is complete, the workspace remains
    assert contents(target) == contents(whole.url)


@given(st.data())
@settings(max_examples=5)
def test_killed_anywhere_resumed_is_never_killed(source, whole, plan, client, contents, data) -> None:
    """Some tasks done, in any order that their dependencies allow, others half done: the same store."""
    with tempfile.TemporaryDirectory() as folder:
        planned = plan(source, Path(folder) / "nsd.zarr")
        done: set[str] = set()
        for _ in range(data.draw(st.integers(0, 12))):
            ready = [task for task in planned.tasks if task.key not in done and set(task.after) <= done]
            if not ready:
                break
            task = data.draw(st.sampled_from(ready))
            if data.draw(st.booleans()):
                task.call()  # done, but killed before its marker was written
            else:
                run_task(planned.folder, task.call)
                done.add(task.key)
        store = carry_out(planned, client)
        assert contents(store.url) == contents(whole.url)


def few(plan, source: Path, folder: Path, **changes):
    """A small ingestion: one subject, V1 to hV4, no images."""
    return plan(source, folder / "nsd.zarr", **({"subjects": [1], "voxels": "evc", "images": "none"} | changes))


def fail_in_session_three(source: Path, betas_file, plan, client, folder: Path) -> bytes:
    """Ingest with a corrupt last session; returns the original bytes of the file."""
    path = betas_file(source, session=3)
    betas_file(source, session=3, format="hdf5").unlink()  # otherwise the intact twin would be read
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-8] + bytes(8))
    with pytest.raises(SourceError, match=r"session03\.nii\.gz"):
        carry_out(few(plan, source, folder), client)
    return content


def test_mend_the_source_and_continue(own_source, betas_file, plan, client, contents, tmp_path: Path) -> None:
    """A file that was fetched again is read again, and nothing else is."""
    content = fail_in_session_three(own_source, betas_file, plan, client, tmp_path)
    betas_file(own_source, session=3).write_bytes(content)
    replaced = betas_file(own_source, session=1)  # the file of a finished session
    same = replaced.read_bytes()
    replaced.unlink()
    replaced.write_bytes(same)
    planned = few(plan, own_source, tmp_path)
    missing = [task.key for task in planned.missing()]
    assert {"betas-subj01-session01", "betas-subj01-session03", "statistics-subj01"} <= set(missing)
    assert "coordinates-subj01" not in missing
    events: list[dict] = []
    store = carry_out(planned, client, listen=events.append)
    assert sorted(e["key"] for e in events if e["kind"] == "task-done") == sorted(missing)
    fresh = carry_out(few(plan, own_source, tmp_path / "fresh"), client)
    assert contents(store.url) == contents(fresh.url)
    assert "files" in json.loads((Path(store.url) / "manifest.json").read_text())["subjects"]["subj01"]


def test_what_coordinates_come_from_may_be_fetched_again_too(
    own_source, betas_file, plan, client, contents, tmp_path: Path
) -> None:
    """Changed atlases are read again, and so are the betas of their voxels."""
    content = fail_in_session_three(own_source, betas_file, plan, client, tmp_path)
    betas_file(own_source, session=3).write_bytes(content)
    path = own_source / roi_paths("subj01", "prf-visualrois", "func1pt8mm")[0]
    image = nib.load(path)
    moved = np.roll(np.asanyarray(image.dataobj), 1, axis=1)  # as many voxels elsewhere
    path.unlink()
    nib.save(nib.Nifti1Image(moved, image.affine), path)
    planned = few(plan, own_source, tmp_path)
    missing = {task.key for task in planned.missing()}
    assert {"coordinates-subj01", *(f"betas-subj01-session{number:02d}" for number in (1, 2, 3))} <= missing
    store = carry_out(planned, client)
    assert set(store.voxels(1)["flat_index"].values) == set(np.flatnonzero(moved > 0))
    fresh = carry_out(few(plan, own_source, tmp_path / "fresh"), client)
    assert contents(store.url) == contents(fresh.url)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"voxels": "visual"}, r"subjects, voxels .*visual now"),
        ({"layout": Layout(chunk_voxels=64)}, r"layout .*chunk_voxels: 256 before, 64 now"),
        ({"subjects": [1, 2]}, r"subjects .*subj02: None before, \d+ voxels"),
    ],
)
def test_other_settings_do_not_continue(own_source, betas_file, plan, client, tmp_path: Path, changes, what) -> None:
    fail_in_session_three(own_source, betas_file, plan, client, tmp_path)
    building = tmp_path / "nsd.zarr.building"
    record = (building / "ingest.json").read_bytes()
    before = {name for name in list_files(str(building)) if not name.endswith(".tmp")}
    with pytest.raises(StoreError, match=f"begun with other {what}"):
        carry_out(few(plan, own_source, tmp_path, **changes), client)
    assert before <= set(list_files(str(building)))  # a task that was still running may have added its own
    assert (building / "ingest.json").read_bytes() == record


def test_a_file_that_changes_after_planning(own_source, betas_file, plan, client, tmp_path: Path) -> None:
    planned = few(plan, own_source, tmp_path)
    path = betas_file(own_source, session=2)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"subj01 session 2: its files changed since the ingestion was planned"):
        carry_out(planned, client)
    later = few(plan, own_source, tmp_path / "later")
    path = own_source / roi_paths("subj01", "nsdgeneral", "func1pt8mm")[0]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(
        SourceError, match=r"nsdgeneral\.nii\.gz: changed since the ingestion was planned; run the same"
    ):
        carry_out(later, client)
