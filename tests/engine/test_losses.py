"""Workers of this machine that are lost, and tasks that do not fit into their memory."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import dask
import pytest

from nsdflow.cluster.connect import connect
from nsdflow.engine.execute import execute
from nsdflow.engine.plan import Plan, Task, task
from nsdflow.errors import RunError


@dataclass(frozen=True)
class Job:
    folder: str
    mebibytes: int = 0


def note(job: Job) -> int:
    """Count the tries."""
    with (Path(job.folder) / "tries").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(tries(Path(job.folder)))


def tries(folder: Path) -> list[str]:
    return (folder / "tries").read_text().split()


@task("tests.grow", version=1)
def grow(job: Job) -> int:
    note(job)
    kept = []
    for _ in range(job.mebibytes // 32):
        kept.append(b"x" * (32 << 20))
        time.sleep(0.02)
    return len(kept)


@task("tests.die_once", version=1)
def die_once(job: Job) -> int:
    if note(job) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


@task("tests.die", version=1)
def die(job: Job) -> None:
    note(job)
    os.kill(os.getpid(), signal.SIGKILL)


def plan(folder: Path, function, **job) -> Plan:
    return Plan("one", str(folder), (Task("one", function, Job(str(folder), **job), "stage", memory=123 << 20),))


def test_a_task_that_does_not_fit_is_tried_twice_and_named(tmp_path):
    with (
        connect("local", workers=1, memory="500MiB", dashboard=None) as client,
        pytest.raises(RunError, match=r"one: exceeded the 500\.00 MiB of memory of its worker twice \(planned: 123"),
    ):
        execute(plan(tmp_path, grow, mebibytes=2000), client)
    assert len(tries(tmp_path)) == 2


def test_a_lost_worker_is_replaced(tmp_path):
    """Dask gives up on a nanny whose worker is not back in time, and starts no other."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}),
        connect("local", workers=1, dashboard=None) as client,
    ):
        assert execute(plan(tmp_path, die_once), client) == {"one": 1}
    assert len(set(tries(tmp_path))) == 2


def test_a_task_under_which_workers_die_ends_with_a_line(tmp_path):
    with (
        connect("local", workers=1, dashboard=None) as client,
        pytest.raises(RunError, match=r"one: its workers died 3 times, most likely .* lack of memory .*finished tasks"),
    ):
        execute(plan(tmp_path, die), client)
    assert len(tries(tmp_path)) == 3
