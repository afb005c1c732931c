"""Workers killed with -9 at every boundary: nothing is lost or wrong, and only unfinished tasks run again.

============  =====================================  ===================================================
pipeline      all workers die when                   outcome
============  =====================================  ===================================================
ingest        the first task of a stage is done      same bytes; each task counted once
gnet8j        an epoch has been reported             same bits; at most one epoch trained twice
============  =====================================  ===================================================
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.engine import markers
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.monitor.events import Event, read_log
from tests.faults.conftest import INGEST, TRAIN, contents
from tests.same_run import assert_same_run

STAGES = ("coordinates", "images", "statistics", "verification")


@pytest.fixture
def client(request):
    with connect("local", workers=request.param, memory="2GiB", dashboard=None) as client:
        yield client


class KillAll:
    """A listener that kills the processes of all workers once, at a given event."""

    def __init__(self, client, when: Callable[[Event], bool]) -> None:
        self.pids = list(client.run(os.getpid).values())
        self.when = when
        self.killed = False

    def __call__(self, event: Event) -> None:
        if not self.killed and self.when(event):
            self.killed = True
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("client", [2], indirect=True, ids=[""])
@pytest.mark.parametrize("stage", ["betas", *(pytest.param(stage, marks=pytest.mark.slow) for stage in STAGES)])
def test_ingestion(client, nsd, whole, tmp_path, stage):
    plan = plan_ingest(str(nsd), str(tmp_path / "nsd.zarr"), **INGEST)
    kill = KillAll(client, lambda event: event["kind"] == "task-done" and event["stage"] == stage)
    done: list[str] = []
    written: dict[str, int] = {}

    def listen(event: Event) -> None:
        if event["kind"] == "task-done":
            done.append(event["key"])
            marker = Path(plan.folder) / "tasks" / f"{event['key']}.json"
            written[event["key"]] = marker.stat().st_mtime_ns
        kill(event)
        if kill.killed:  # finished tasks stay unchanged, however often Dask sends them again
            for key, when in written.items():
                assert (Path(plan.folder) / "tasks" / f"{key}.json").stat().st_mtime_ns == when, f"{key} ran again"

    carry_out(plan, client, listen=listen)
    assert kill.killed
    assert contents(tmp_path / "nsd.zarr") == contents(whole[0])
    assert sorted(done) == sorted(task.key for task in plan.tasks)


@pytest.mark.parametrize("client", [1], indirect=True, ids=[""])  # a training is one task at a time
def test_training(client, whole, tmp_path):
    store, reference = whole
    kill = KillAll(client, lambda event: event["kind"] == "epoch" and event["epoch"] == 2)
    nsdflow.run("gnet8j", store=store, runs=str(tmp_path), client=client, listen=kill, **TRAIN)
    assert kill.killed
    assert_same_run(reference, tmp_path / "gnet8j")
    events = read_log(tmp_path / "gnet8j" / "log.jsonl")
    epochs = [event["epoch"] for event in events if event["kind"] == "epoch"]
    assert epochs in ([1, 2, 3], [1, 2, 2, 3]), "an epoch whose checkpoint was written was trained again"
    assert markers.count_finished(str(tmp_path / "gnet8j")) == {"train": (1, 1), "publish": (1, 1)}
