"""Tasks leave in time, and their work continues elsewhere."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nsdflow.cluster.connect import connect
from nsdflow.cluster.deadline import (
    CHECKPOINT_MARGIN_S,
    DEADLINE,
    POOL,
    deadline,
    hand_over,
    should_stop,
)
from nsdflow.errors import RunError
from tests.interrupts import pretend_interrupt


@pytest.fixture(autouse=True)
def no_deadline(monkeypatch):
    for name in (DEADLINE, "SLURM_JOB_END_TIME", POOL):
        monkeypatch.delenv(name, raising=False)


def count(path: str, epochs: int) -> str:
    """A stand-in for training that writes one line per epoch and continues where the file ends."""
    file = Path(path)
    while (done := len(file.read_text().splitlines()) if file.exists() else 0) < epochs:
        if should_stop():
            hand_over()
        with file.open("a") as out:
            out.write(f"{done + 1} {os.getpid()}\n")
        time.sleep(0.05)
    return "done"


def wait_for_lines(path: Path, lines: int, seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert time.monotonic() < ends, f"{path} never got {lines} lines"
        time.sleep(0.02)


def test_without_a_deadline_nothing_stops():
    assert deadline() is None
    assert not should_stop()


def test_our_own_deadline_wins_over_slurms(monkeypatch):
    now = time.time()
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(now) + 3600))
    assert deadline() == int(now) + 3600 - CHECKPOINT_MARGIN_S
    monkeypatch.setenv(DEADLINE, str(now + 100))
    assert deadline() == now + 100
    assert not should_stop()
    monkeypatch.setenv(DEADLINE, str(now - 1))
    assert should_stop()


def test_without_a_worker_that_is_replaced_the_task_says_to_run_again(client, tmp_path):
    path = tmp_path / "epochs"
    future = client.submit(count, str(path), 1000, key="counting-alone")
    wait_for_lines(path, 3)
    with pretend_interrupt(client), pytest.raises(RunError, match="run the same command"):
        future.result(timeout=20)
    assert not should_stop()
    with pytest.raises(RunError):
        hand_over()  # outside Dask


def test_the_work_goes_on_elsewhere_where_it_stopped(tmp_path):
    path = tmp_path / "epochs"
    with connect("local", workers=2, memory="2GiB", dashboard=None) as client:
        client.run(in_a_pool)
        future = client.submit(count, str(path), 30, key="counting", resources={"GPU": 1})
        wait_for_lines(path, 5)
        (busy,) = (address for address, keys in client.processing().items() if keys)
        client.run(set_deadline, workers=[busy])
        assert future.result(timeout=30) == "done"
        assert busy not in client.scheduler_info()["workers"]
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [int(epoch) for epoch, _ in lines] == list(range(1, 31))  # no epoch lost, none done twice
    pids = [pid for _, pid in lines]
    assert len(set(pids)) == 2
    assert pids == sorted(pids, key=pids.index)  # the first never came back


def test_a_retired_worker_is_left_within_a_step(tmp_path):
    path = tmp_path / "epochs"
    with connect("local", workers=2, memory="2GiB", dashboard=None) as client:
        future = client.submit(count, str(path), 30, key="counting", resources={"GPU": 1})
        wait_for_lines(path, 5)
        (busy,) = (address for address, keys in client.processing().items() if keys)
        client.retire_workers([busy], close_workers=True)
        assert future.result(timeout=30) == "done"
    assert len({line.split()[1] for line in path.read_text().splitlines()}) == 2


def in_a_pool() -> None:
    os.environ[POOL] = "gpu"


def set_deadline() -> None:
    os.environ[DEADLINE] = "0"
