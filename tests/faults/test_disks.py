"""File systems that are full, then freed, or that may not be written: a small tmpfs for each test.

============================  ===========================================================================
the disk is full when         outcome
============================  ===========================================================================
betas are written             one line; freed, the same command continues: complete, equal, none done twice
a marker is written           the same
a checkpoint is written       the same; the checkpoint before it stands
results are written           the same; the training does not run again
predictions, matrices or      the same, with the bytes of an undisturbed run
features are written
a library fills it            one line
it is read-only               one line, from ingestion and from training; nothing is left behind; pages go elsewhere
============================  ===========================================================================
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.engine import markers
from nsdflow.engine.execute import execute
from nsdflow.engine.plan import Plan, Task
from nsdflow.engine.plan import task as declare_task
from nsdflow.errors import NsdflowError, RunError, StoreError
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.io.folders import list_files
from nsdflow.monitor.events import read_log
from nsdflow.pipelines.fwrf import features as fwrf_features
from nsdflow.pipelines.predict import tasks as predict_tasks
from nsdflow.pipelines.ridge import tasks as ridge_tasks
from nsdflow.report import html, write_report
from nsdflow.report.brain.explorer import write_explorer
from nsdflow.runs import parts
from nsdflow.runs.export import export_maps
from tests.faults.conftest import INGEST, TRAIN, contents, marks
from tests.same_run import assert_same_run

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="mounts a tmpfs, which takes root"
)


@pytest.fixture(scope="module")
def client():
    with connect("threads", dashboard=None) as client:
        yield client


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A separate file system of 16 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


class Ballast:
    """All space of the file system."""

    def __init__(self, disk: Path) -> None:
        self.file = disk / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Fill everything except ``leave`` bytes."""
        with self.file.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
            file.truncate(max(0, file.tell() - leave))
        assert shutil.disk_usage(self.file.parent).free <= leave + (1 << 12)

    def free(self) -> None:
        """Free the space."""
        self.file.unlink()


@pytest.fixture
def ballast(disk) -> Ballast:
    return Ballast(disk)


def when_called(monkeypatch, module, name: str, do: Callable[[], None], number: int = 1) -> None:
    """Do something right before a function of a module is called for the ``number``-th time."""
    function, calls = getattr(module, name), []

    def call(*arguments, **settings):
        calls.append(name)
        if len(calls) == number:
            do()
        return function(*arguments, **settings)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("writing", ["betas", "marker"])
def test_ingestion(client, nsd, whole, disk, ballast, monkeypatch, writing):
    plan = lambda: plan_ingest(str(nsd), str(disk / "nsd.zarr"), **INGEST)  # noqa: E731
    building = disk / "nsd.zarr.building"
    with monkeypatch.context() as patched:
        if writing == "betas":
            from nsdflow.ingestion.tasks import betas as ingest_tasks

            when_called(patched, ingest_tasks, "write_shard", lambda: ballast.fill(1 << 12), number=2)
        else:
            when_called(patched, markers, "write", ballast.fill, number=5)
        with pytest.raises(StoreError, match=r"no space left .*; free some and run the same command again") as error:
            carry_out(plan(), client)
    assert "\n" not in str(error.value)
    done = marks(building)
    assert done
    ballast.free()
    ran: list[str] = []
    carry_out(plan(), client, listen=lambda e: ran.append(e["key"]) if e["kind"] == "task-done" else None)
    assert not set(ran) & set(done), "a task that was done ran again"
    assert contents(disk / "nsd.zarr") == contents(whole[0])
    assert [path.name for path in disk.iterdir()] == ["nsd.zarr"]


@pytest.mark.parametrize(
    "writing", ["checkpoint", *(pytest.param(name, marks=pytest.mark.slow) for name in ("results", "marker"))]
)
def test_training(client, whole, disk, ballast, monkeypatch, writing):
    from nsdflow.fit.gnet import training as gnet

    folder = disk / "gnet8j"
    run = lambda: nsdflow.run("gnet8j", store=whole[0], runs=str(disk), client=client, **TRAIN)  # noqa: E731
    where = {
        "checkpoint": (gnet, "write_checkpoint", 2),
        "results": (parts, "write_results", 1),
        "marker": (markers, "write", 1),
    }
    with monkeypatch.context() as patched:
        module, name, number = where[writing]
        when_called(patched, module, name, ballast.fill, number)
        with pytest.raises(NsdflowError, match=r"(?i)no space left|cannot be written .*free space") as error:
            run()
    assert "\n" not in str(error.value)
    assert not (folder / "results.zarr").exists()
    ballast.free()
    run()
    assert_same_run(whole[1], folder)
    events = read_log(folder / "log.jsonl")
    epochs = [event["epoch"] for event in events if event["kind"] == "epoch"]
    assert sorted(set(epochs)) == [1, 2, 3]
    assert len(epochs) <= 4, "more than the epoch whose checkpoint could not be written was trained again"
    assert not [name for name in list_files(str(folder)) if name.endswith((".tmp", ".part", ".hold"))]


#: Pipelines that write arrays in other ways, and where the disk is full: a module, its function, the call.
OTHERS = {
    "predict": (predict_tasks, "create_results", 1),
    "ridge": (ridge_tasks, "write_matrix", 2),
    "gabor_fwrf": (fwrf_features, "save_state", 1),
}
SETTINGS = {
    "predict": {"threads": 1, "images_per_task": 40, "batch_size": 40},
    "ridge": {"lambdas": 2, "bootstrap": 2, "threads": 1, "weights": True, "subjects": [2]},
    "gabor_fwrf": {
        "features": "gabor_low", "candidates": {"sizes": 2, "smallest": 0.2}, "lambdas": 2, "bootstrap": 2,
        "threads": 1, "subjects": [2],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_other_pipelines_write(client, whole, disk, ballast, tmp_path, monkeypatch, name):
    settings = dict(SETTINGS[name])
    if name == "predict":
        settings["model"] = str(whole[1])
    if name == "ridge":
        seen = np.unique(nsdflow.open_store(whole[0]).trials(2)["nsd_id"])
        values = np.random.default_rng(0).normal(size=(len(seen), 5)).astype(np.float32)
        settings["features"] = str(tmp_path / "features.npz")
        np.savez(tmp_path / "features.npz", nsd_id=seen, values=values)
    run = lambda runs: nsdflow.run(name, store=whole[0], runs=str(runs), client=client, **settings)  # noqa: E731
    with monkeypatch.context() as patched:
        module, function, number = OTHERS[name]
        when_called(patched, module, function, ballast.fill, number)
        with pytest.raises(StoreError, match=rf"^{disk}/{name}/.*: no space left .*; free some and run") as error:
            run(disk)
    assert "\n" not in str(error.value)
    ballast.free()
    run(disk)
    run(tmp_path)
    kept = ("results.zarr", "model.safetensors", "coefficients", "weights.zarr")
    ours, theirs = (
        {file: data for file, data in contents(folder / name).items() if file.startswith(kept)}
        for folder in (disk, tmp_path)
    )
    assert ours == theirs
    assert len(ours) > 10


def test_a_task_that_fills_a_disk_in_any_other_way_says_what_to_do(client, tmp_path):
    task = Task("one", full_disk, Nothing(), "work")
    with pytest.raises(
        RunError, match=r"^one: OSError: .*; free some space in .* and run the same command again"
    ) as error:
        execute(Plan("plan", str(tmp_path / "plan"), (task,)), client)
    assert "\n" not in str(error.value)


@dataclass(frozen=True)
class Nothing:
    """A job without content."""


@declare_task("tests.full_disk", version=1)
def full_disk(job: Nothing) -> None:
    """Fail as a library does that writes a temporary file."""
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/tmp/library")


def test_pages_of_a_run_on_a_read_only_disk_go_elsewhere(whole, disk, tmp_path, monkeypatch):
    monkeypatch.setattr(html, "render_report", lambda run: f"a page of {run.name}".ljust(2000))
    run = shutil.copytree(whole[1], disk / "gnet8j")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for write in (write_report, write_explorer):
        with pytest.raises(StoreError, match=r"\(Read-only file system\); choose another place with --out FILE$"):
            write(run)
        page = write(run, out=tmp_path / "page.html")
        assert page == tmp_path / "page.html"
        assert page.stat().st_size > 1000
    with pytest.raises(StoreError, match=r"maps: may not be written \(Read-only file system\); choose another place$"):
        export_maps(str(run), disk / "maps")


def test_read_only(client, nsd, whole, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(StoreError, match=r"may not be written \(Read-only file system\); choose another place"):
        carry_out(plan_ingest(str(nsd), str(disk / "nsd.zarr"), **INGEST), client)
    with pytest.raises((StoreError, RunError), match=r"may not be written \(Read-only file system\)"):
        nsdflow.run("gnet8j", store=whole[0], runs=str(disk), client=client, **TRAIN)
    assert list(disk.iterdir()) == []


def test_results_on_a_read_only_disk_are_read(whole, disk):
    for path, name in ((whole[0], "nsd.zarr"), (whole[1], "gnet8j")):
        shutil.copytree(path, disk / name)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert nsdflow.open_store(str(disk / "nsd.zarr")).responses(1, roi="V1").compute().sizes["voxel"] > 0
    again = nsdflow.run("gnet8j", store=whole[0], runs=str(disk), **TRAIN)
    assert again.identical(nsdflow.open_run(whole[1]))
