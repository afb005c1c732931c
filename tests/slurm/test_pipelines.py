"""Whole pipelines on SLURM: doctor, ingestion and two trainings at once, with jobs killed in the middle."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dask
import pytest
import torch

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.cluster.deadline import deadline
from nsdflow.cluster.doctor import doctor
from nsdflow.config.storage import Layout
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.io.folders import list_files
from nsdflow.monitor.events import Event, read_log, subscribe
from tests.same_run import assert_same_run
from tests.slurm.conftest import SMALL, feed_all, meet

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(420)]


class CancelOnce:
    """A listener that records all events and cancels, once, the job whose worker sent an event that meets ``when``."""

    def __init__(self, when: Callable[[Event], bool]) -> None:
        self.when = when
        self.events: list[Event] = []
        self.job_of: dict[str, str] = {}
        self.cancelled: str | None = None

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if event["kind"] == "job" and event["state"] == "up":
            self.job_of[event["name"]] = event["id"]
        if self.cancelled is None and self.when(event):
            self.cancelled = self.job_of[event.get("worker_name", "cpu-0")]
            subprocess.run(["scancel", self.cancelled], check=True)


def test_doctor_examines_both_pools_with_a_job_each(sections, times):
    examination = doctor("slurm", times=times, wait_s=120)
    assert set(examination.job_scripts) == {"cpu", "gpu"}
    assert "#SBATCH --gres=gpu:1" in examination.job_scripts["gpu"]
    states = {(finding.where, finding.what): finding.state for finding in examination.findings}
    for pool in ("cpu", "gpu"):
        for what in ("start", "environment", "files", "size", "walltime"):
            assert states[pool, what] == "ok", (pool, what)
    # the doctor detects that the pretended GPUs are not GPUs
    assert states["gpu", "GPU"] == ("ok" if torch.cuda.is_available() else "problem")


def test_ingestion_with_a_job_killed_in_the_middle_gives_the_same_bytes(
    sections, times, small_nsd, small_store, tmp_path
):
    cancel = CancelOnce(lambda event: event["kind"] == "task-done" and event["stage"] == "coordinates")
    plan = plan_ingest(
        str(small_nsd), str(tmp_path / "nsd.zarr"), voxels="evc", image_size=67, layout=Layout(chunk_voxels=16)
    )
    with connect("slurm", dashboard=None, times=times) as client, subscribe(client, cancel):
        carry_out(plan, client, listen=cancel)
    assert cancel.cancelled
    done = [event["key"] for event in cancel.events if event["kind"] == "task-done"]
    assert sorted(done) == sorted(task.key for task in plan.tasks)  # each is counted once, whatever ran again
    assert contents(tmp_path / "nsd.zarr") == contents(small_store)


def test_two_trainings_at_once_one_job_killed_and_every_bit_as_without_slurm(
    sections, times, small_store, reference, tmp_path
):
    trainers: set[str] = set()

    def two_train(event: Event) -> bool:
        """True in the middle of a training, once another job has trained too."""
        if event["kind"] != "epoch":
            return False
        trainers.add(event["worker_name"])
        return len(trainers) == 2 and event["epoch"] in (2, 3)

    cancel = CancelOnce(two_train)
    with connect("slurm", dashboard=None, times=replace(times, idle_s=30.0)) as client:
        with subscribe(client, cancel):  # a fast machine would have trained everything before its second job is up
            feed_all(client, {f"meet-{number}": ("gpu", meet, str(tmp_path), number, 2) for number in range(2)})
        nsdflow.run("gnet8r", store=small_store, runs=str(tmp_path), client=client, listen=cancel, **SMALL)
    events = read_log(tmp_path / "gnet8r" / "log.jsonl")
    epochs = [event for event in events if event["kind"] == "epoch"]
    assert cancel.cancelled
    assert "lost" in [event["state"] for event in events if event["kind"] == "job"]
    times = ([event["time"] for event in epochs if event["worker_name"] == worker] for worker in sorted(trainers))
    (first, last), (other_first, other_last) = ((min(at), max(at)) for at in times)
    assert max(first, other_first) < min(last, other_last), "no two trained at the same time"
    trained_again = len(epochs) - 4 * len({event["group"] for event in epochs})
    assert 0 <= trained_again <= 1  # an epoch that was reported but whose checkpoint was cut off
    assert_same_run(reference, tmp_path / "gnet8r")


def occupy(seconds_left: float) -> None:
    """A task that ends a number of seconds before trainings have to leave its job."""
    ends = deadline()
    assert ends is not None
    time.sleep(max(0.0, ends - seconds_left - time.time()))


def test_trainings_meet_a_walltime_of_one_minute_by_leaving_before_it(
    sections, times, small_store, reference, tmp_path
):
    one_minute = {**sections["gpu"], "walltime": "00:01:00", "maximum-jobs": 1}
    with (
        dask.config.set({"jobqueue.slurm-gpu": one_minute}),
        connect("slurm", dashboard=None, times=replace(times, idle_s=30.0)) as client,
    ):
        feed_all(client, {"before": ("gpu", occupy, 6.0)})  # less than four trainings and the import of torch take
        nsdflow.run("gnet8r", store=small_store, runs=str(tmp_path), client=client, **SMALL)
    events = read_log(tmp_path / "gnet8r" / "log.jsonl")
    epochs = [event for event in events if event["kind"] == "epoch"]
    jobs = [event for event in events if event["kind"] == "job" and event["pool"] == "gpu"]
    lost = [event for event in jobs if event["state"] == "lost"]
    assert lost
    assert len({event["name"] for event in jobs}) == len(lost) + 1  # each was replaced
    assert 0 <= len(epochs) - 4 * 4 <= len(lost)  # at most the epoch under way was trained again
    logs = "".join(log.read_text() for log in Path("nsdflow-jobs").glob("*.err"))
    assert "DUE TO TIME LIMIT" not in logs  # the queue never had to kill anything
    assert_same_run(reference, tmp_path / "gnet8r")


def contents(store: str | Path) -> dict[str, bytes]:
    """Every byte of a store, by file."""
    return {name: (Path(store) / name).read_bytes() for name in list_files(str(store))}
