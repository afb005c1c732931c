"""Drivers (the ``nsdflow`` command) killed with -9 at every boundary, and two at once.

============  ======================================  ==========================================================
pipeline      the command is killed when              outcome of the same command
============  ======================================  ==========================================================
ingest        the first task of each stage is done    continues; a task that was done never runs again; same bytes
ingest        the store has got its name              the store is there and whole
gnet8j        an epoch has been reported              the next epoch is trained; same bits
gnet8j        the training's marker is written        only publication runs; same bits
gnet8j        the results have got their name         returns at once; what is of no use any more is removed
either        a second command at the same time       refused with one line: host, process, since when
either        two get through all the same            right values; the later one gets an error
============  ======================================  ==========================================================
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import pytest
import xarray as xr
from zarr.errors import ZarrUserWarning

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.errors import NsdflowError, RunError
from nsdflow.ingestion import ingest as ingesting
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.monitor.events import read_log
from nsdflow.pipelines import run as pipelines
from tests.faults.conftest import INGEST, TRAIN, command, contents, marks, tell
from tests.same_run import assert_same_run

STAGES = ("coordinates", "betas", "images", "statistics", "verification")


@pytest.mark.parametrize("stages", [("betas",), pytest.param(STAGES, marks=pytest.mark.slow)], ids=["one", "every"])
def test_ingestion_killed_at_boundaries(ingest_command, whole, tmp_path, stages):
    """One target, killed at each boundary in turn: tasks that were done before a kill stay done."""
    building, done = tmp_path / "nsd.zarr.building", {}
    for stage in stages:
        killed = command(*ingest_command, die=f"task-done:{stage}")
        assert killed.returncode == -9, killed.stderr
        assert not (tmp_path / "nsd.zarr").exists()
        now = marks(building)
        assert now.items() >= done.items(), f"killed at {stage}: a task that was done ran again"
        assert len(now) > len(done), f"killed at {stage}: nothing more was done"
        done = now
    assert list(tmp_path.glob("*.hold"))
    killed = command(*ingest_command, die="published:")
    assert killed.returncode == -9, killed.stderr
    assert contents(tmp_path / "nsd.zarr") == contents(whole[0])
    assert not building.exists()


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
def test_training_killed_at_boundaries(run_command, whole, tmp_path, every):
    folder = tmp_path / "runs" / "gnet8j"
    killed = command(*run_command, die="epoch:1")
    assert killed.returncode == -9, killed.stderr
    assert (folder / "checkpoint" / "joint.pt").exists()
    trained = {}
    if every:
        killed = command(*run_command, die="task-done:train")
        assert killed.returncode == -9, killed.stderr
        trained = marks(folder)
        assert trained.keys() == {"train-joint"}
    killed = command(*run_command, die="published:")
    assert killed.returncode == -9, killed.stderr
    assert marks(folder).items() >= trained.items(), "the training ran again"
    assert_same_run(whole[1], folder)
    assert (folder / "parts").exists()
    nsdflow.run("gnet8j", store=whole[0], runs=str(folder.parent), **TRAIN)  # needs no cluster: everything is complete
    assert {path.name for path in folder.iterdir()} == {
        "run.yaml", "results.zarr", "model.safetensors", "log.jsonl", "plan.json", "tasks", "README.md"
    }  # fmt: skip
    assert_same_run(whole[1], folder)
    epochs = [event["epoch"] for event in read_log(folder / "log.jsonl") if event["kind"] == "epoch"]
    assert epochs in ([1, 2, 3], [1, 2, 2, 3]), "an epoch whose checkpoint was written was trained again"


@pytest.mark.parametrize("kind", ["ingest", pytest.param("run", marks=pytest.mark.slow)])
def test_the_second_of_two_commands_is_refused(kind, ingest_command, run_command, whole, nsd, tmp_path):
    """The first is this process, in the middle of its work; the second the command line, as from another terminal."""
    refused: list[str] = []
    arguments = ingest_command if kind == "ingest" else run_command

    def meanwhile(event):
        if event["kind"] == "task-done" and not refused:
            refused.append(tell(command(*arguments)))

    with connect("threads", dashboard=None) as client:
        if kind == "ingest":
            plan = plan_ingest(str(nsd), str(tmp_path / "nsd.zarr"), **INGEST)
            carry_out(plan, client, listen=meanwhile)
        else:
            runs = str(tmp_path / "runs")
            nsdflow.run("gnet8j", store=whole[0], runs=runs, client=client, listen=meanwhile, **TRAIN)
    (line,) = refused
    what = tmp_path / ("nsd.zarr" if kind == "ingest" else "runs/gnet8j")
    assert line.startswith(f"{what}: a command on ")
    assert f"(process {os.getpid()}, since 20" in line
    assert line.endswith("works on it already; wait for it (nsdflow status says how far it is), "
                         "or stop it and run the same command again")  # fmt: skip
    if kind == "ingest":
        assert contents(what) == contents(whole[0])
    else:
        assert_same_run(whole[1], what)
    assert list(what.parent.rglob("*.hold")) == []


class _Free:
    """A lock that never refuses a driver."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def check(self):
        pass


@pytest.mark.parametrize("kind", ["ingest", pytest.param("run", marks=pytest.mark.slow)])
def test_should_two_get_through_values_are_right(kind, whole, nsd, tmp_path, monkeypatch):
    """Without holds, as where an object store ignores conditions: both at once on the same target.

    At worst both fail at publication; then nothing is visible, and the same command completes it.
    """
    monkeypatch.setattr(ingesting if kind == "ingest" else pipelines, "holding", lambda *_, **__: _Free())
    told: list[Exception] = []

    def drive(client):
        try:
            if kind == "ingest":
                carry_out(plan_ingest(str(nsd), str(tmp_path / "nsd.zarr"), **INGEST), client)
            else:
                nsdflow.run("gnet8j", store=whole[0], runs=str(tmp_path / "runs"), client=client, **TRAIN)
        except (NsdflowError, ZarrUserWarning) as error:  # zarr warns of the other's temporary files
            told.append(error)

    with connect("threads", dashboard=None) as one, connect("threads", dashboard=None) as other:
        drivers = [threading.Thread(target=drive, args=(client,)) for client in (one, other)]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join()
        if len(told) == 2:
            told.clear()
            drive(one)
    assert len(told) < 2, told
    if kind == "ingest":
        one, other = nsdflow.open_store(str(tmp_path / "nsd.zarr")), nsdflow.open_store(whole[0])
        for subject in other.subjects:
            xr.testing.assert_identical(one.responses(subject).compute(), other.responses(subject).compute())
        xr.testing.assert_identical(one.images().compute(), other.images().compute())
    else:
        assert_same_run(whole[1], tmp_path / "runs" / "gnet8j")


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_scheduler_that_dies(whole, tmp_path):
    """Joined by address, killed with -9 in the middle of training, started again: the same call continues."""
    where = tmp_path / "scheduler.json"
    scheduler = ["distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(where)]
    worker = ["distributed.cli.dask_worker", "--scheduler-file", str(where), "--nthreads", "1", "--no-dashboard"]
    worker += ["--no-nanny", "--death-timeout", "20", "--resources", "CPU=1 GPU=1"]
    folder = tmp_path / "runs" / "gnet8j"

    def run(address):
        with connect(address) as client:
            nsdflow.run("gnet8j", store=whole[0], runs=str(tmp_path / "runs"), client=client, **TRAIN)

    for killed in (True, False):
        where.unlink(missing_ok=True)
        running = [start(*scheduler), start(*worker)]
        try:
            while not where.exists() or not where.read_text().strip():
                time.sleep(0.1)
            address = json.loads(where.read_text())["address"]
            if killed:
                killer = threading.Thread(target=_kill_after_an_epoch, args=(folder, running[0]))
                killer.start()
                with pytest.raises(RunError) as error:
                    run(address)
                killer.join()
                assert str(error.value) == (
                    f"the scheduler at {address} is gone; start one again and run the same command to continue: "
                    "finished tasks are kept"
                )
                assert not (folder / "results.zarr").exists()
                assert list(folder.glob("*.hold")) == []
            else:
                run(address)
        finally:
            for process in running:
                process.kill()
                process.wait()
    assert_same_run(whole[1], folder)
    epochs = [event["epoch"] for event in read_log(folder / "log.jsonl") if event["kind"] == "epoch"]
    # a second epoch may end before the worker notices that its scheduler is gone
    assert epochs.count(1) <= 1, "an epoch whose checkpoint was written was trained again"
    assert 3 in epochs


def _kill_after_an_epoch(folder: Path, scheduler: subprocess.Popen) -> None:
    while not (folder / "checkpoint" / "joint.pt").exists():
        time.sleep(0.01)
    scheduler.kill()


def test_a_scheduler_that_is_not_there():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(RunError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9; "),
        connect("tcp://127.0.0.1:9"),
    ):
        pass
