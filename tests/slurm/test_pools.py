"""Pools of real SLURM jobs: they start, see their GPU, replace lost jobs, leave in time, and give up."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import dask
import pytest

from nsdflow.cluster.connect import connect
from nsdflow.cluster.deadline import hand_over, should_stop
from nsdflow.errors import PlanError, RunError
from nsdflow.monitor.events import emit, subscribe
from tests.slurm.conftest import feed_all, meet, queued, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(240)]


def where(number: int, seconds: float = 0.5) -> dict[str, str | None]:
    time.sleep(seconds)
    names = ("CUDA_VISIBLE_DEVICES", "NSDFLOW_POOL", "SLURM_JOB_ID")
    return {name: os.environ.get(name) for name in names}


def count(path: str, epochs: int, seconds: float = 0.1) -> str:
    """A stand-in for training that writes one line per epoch with its job, and continues where the file ends."""
    file = Path(path)
    while (done := len(file.read_text().splitlines()) if file.exists() else 0) < epochs:
        if should_stop():
            hand_over()
        with file.open("a") as out:
            out.write(f"{done + 1} {os.environ['SLURM_JOB_ID']}\n")
        emit("epoch", run=file.name, epoch=done + 1, epochs=epochs)
        time.sleep(seconds)
    return "done"


def lines_of(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_two_pools_run_side_by_side_and_are_released_when_nothing_is_left(sections, times, tmp_path):
    # however fast the first GPU job works, it has to wait for the second
    tasks = {f"meet-{number}": ("gpu", meet, str(tmp_path), number, 2) for number in range(2)}
    tasks |= {f"{pool}-{number}": (pool, where, number, 1.0) for pool in ("cpu", "gpu") for number in range(6)}
    with connect("slurm", dashboard=None, times=times) as client:
        assert client.scheduler.address.startswith("tls://")
        assert queued() == []  # no job is requested before there is work
        results = feed_all(client, tasks)
        on = {pool: [results[f"{pool}-{number}"] for number in range(6)] for pool in ("cpu", "gpu")}
        assert {result["NSDFLOW_POOL"] for result in on["cpu"]} == {"cpu"}
        assert {result["NSDFLOW_POOL"] for result in on["gpu"]} == {"gpu"}
        # one GPU per job, never the same for both, and no job without work
        gpu_of = {result["SLURM_JOB_ID"]: result["CUDA_VISIBLE_DEVICES"] for result in on["gpu"]}
        assert sorted(gpu_of.values()) == ["0", "1"]
        assert min(Counter(result["SLURM_JOB_ID"] for result in on["gpu"]).values()) >= 2
        assert {result["CUDA_VISIBLE_DEVICES"] for result in on["cpu"]} == {None}
        wait_until(lambda: queued() == [])
    assert list(Path("nsdflow-jobs").glob("tls-*")) == []


def test_jobs_go_when_the_connection_closes(sections, times):
    with connect("slurm", dashboard=None, times=times) as client:
        feed_all(client, {"one": ("cpu", where, 1)})
        assert len(queued("nsdflow-cpu")) == 1
    wait_until(lambda: queued() == [], seconds=15)


def test_scancel_in_the_middle_of_a_training_costs_at_most_one_epoch(sections, times, tmp_path):
    path, events = tmp_path / "epochs", []
    cancelled = []

    def cancel_once():
        if len(lines_of(path)) >= 20 and not cancelled:
            cancelled.append(lines_of(path)[-1][1])
            subprocess.run(["scancel", *cancelled], check=True)

    with connect("slurm", dashboard=None, times=times) as client, subscribe(client, events.append):
        results = feed_all(client, {"train": ("gpu", count, str(path), 60)}, cancel_once)
    assert results == {"train": "done"}
    numbers = [int(number) for number, _ in lines_of(path)]
    jobs = list(dict.fromkeys(job for _, job in lines_of(path)))
    assert numbers == list(range(1, 61))
    assert len(jobs) == 2
    assert jobs[0] == cancelled[0]
    states = [event["state"] for event in events if event["kind"] == "job"]
    assert [state for state in states if state in ("up", "lost")][:3] == ["up", "lost", "up"]


def test_jobs_that_never_work_are_given_up_with_the_reason(sections, times):
    broken = {**sections["gpu"], "job-script-prologue": ["echo no such module >&2", "exit 3"]}
    with (
        dask.config.set({"jobqueue.slurm-gpu": broken}),
        connect("slurm", dashboard=None, times=times) as client,
    ):
        before = next_job_id()
        with pytest.raises(RunError, match=r"gpu pool gave up: 3 jobs in a row.*no such module.*nsdflow doctor"):
            feed_all(client, {"train-1": ("gpu", where, 1), "train-2": ("gpu", where, 2)})
        assert next_job_id() - before - 1 == times.useless_jobs  # two at first, then one at a time, and not one more


def test_what_the_queue_refuses_is_said_in_its_words(sections, times):
    with (
        dask.config.set({"jobqueue.slurm-gpu": {**sections["gpu"], "queue": "nosuchqueue"}}),
        connect("slurm", dashboard=None, times=times) as client,
        pytest.raises(RunError, match=r"could not be submitted: .*invalid partition"),
    ):
        feed_all(client, {"train": ("gpu", where, 1)})


def test_a_machine_without_the_queue_says_so(sections):
    with pytest.raises(PlanError, match="'bsub' is not installed on this machine"), connect("lsf"):
        pass


def next_job_id() -> int:
    """The number SLURM gives to a job submitted now (and cancelled at once)."""
    out = subprocess.run(
        ["sbatch", "--hold", "--parsable", "--wrap", "true"], capture_output=True, text=True, check=True
    ).stdout.strip()
    subprocess.run(["scancel", out], check=True)
    return int(out)
