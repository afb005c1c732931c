"""Trainings that have to leave, two copies of one training, and damaged files of a run.

=====================================  ==================================================================
fault                                  outcome
=====================================  ==================================================================
the worker closes at each epoch        continued from its checkpoint each time; same bits, no epoch twice
two copies of one training             the older stops with one line; same bits
a truncated marker                     that task runs again, and what waits for it
a truncated or flipped checkpoint      one line: delete it to start again
a truncated lease, a truncated hold    no lease, no hold
a truncated ``run.yaml``               one line
a truncated ``ingest.json``            one line
=====================================  ==================================================================
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.cluster.deadline import DEADLINE
from nsdflow.engine import training_lease as lease
from nsdflow.errors import NsdflowError, RunError, StoreError
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.monitor.events import emit, read_log
from nsdflow.pipelines.gnet import training
from nsdflow.pipelines.gnet.tasks import TrainJob, train_group
from nsdflow.pipelines.run import resolve
from tests.faults.conftest import INGEST, TRAIN, contents, marks
from tests.same_run import assert_same_run


@pytest.fixture(scope="module")
def client():
    with connect("threads", dashboard=None) as client:
        yield client


@pytest.fixture
def train(client, whole, tmp_path):
    """``train()`` runs the training of the reference in the test's own folder."""
    return lambda: nsdflow.run("gnet8j", store=whole[0], runs=str(tmp_path), client=client, **TRAIN)


def stop_at_epochs(monkeypatch) -> None:
    """Makes a training believe that its worker closes as soon as an epoch is done."""

    def interrupt(kind, **fields):
        if kind == "epoch":
            monkeypatch.setenv(DEADLINE, "0")
        emit(kind, **fields)

    monkeypatch.setattr(training, "emit", interrupt)


def test_leaving_at_every_epoch_changes_no_bit(train, whole, tmp_path, monkeypatch):
    for _ in range(TRAIN["train"]["epochs"] - 1):
        with monkeypatch.context() as patched:
            stop_at_epochs(patched)
            with pytest.raises(RunError, match="run the same command to continue"):
                train()
    train()
    epochs = [event["epoch"] for event in read_log(tmp_path / "gnet8j" / "log.jsonl") if event["kind"] == "epoch"]
    assert epochs == [1, 2, 3], "an epoch was lost, or trained twice"
    assert_same_run(whole[1], tmp_path / "gnet8j")


def test_of_two_copies_of_a_training_the_older_stops(train, whole, tmp_path, monkeypatch):
    """The second is started when the first has trained an epoch, as a retired worker's task is started elsewhere."""
    monkeypatch.setattr(lease, "LEASE_CHECK_INTERVAL_S", 0.0)
    config = resolve("gnet8j", {key: value for key, value in TRAIN.items() if key != "train"} | {
        f"train.{key}": value for key, value in TRAIN["train"].items()
    })  # fmt: skip
    job = TrainJob(config, whole[0], str(tmp_path / "gnet8j"), "joint")
    second_claims, first_may_go_on, told = threading.Event(), threading.Event(), []
    claim = lease.Lease.claim

    def claimed(folder, name):
        mine = claim(folder, name)
        if threading.current_thread().name == "second":
            first_may_go_on.set()
        return mine

    def epoch(kind, **fields):
        if kind == "epoch" and threading.current_thread().name == "first":
            second_claims.set()
            assert first_may_go_on.wait(60)

    monkeypatch.setattr(lease.Lease, "claim", claimed)
    monkeypatch.setattr(training, "emit", epoch)

    def copy():
        if threading.current_thread().name == "second":
            assert second_claims.wait(60)
        try:
            train_group(job)
        except RunError as error:
            told.append((threading.current_thread().name, str(error)))

    copies = [threading.Thread(target=copy, name=name) for name in ("first", "second")]
    for thread in copies:
        thread.start()
    for thread in copies:
        thread.join()
    ((name, line),) = told
    assert name == "first"
    assert line.startswith("joint: a newer copy of this training runs on ")
    assert line.endswith("this one stopped")
    monkeypatch.undo()
    train()
    assert_same_run(whole[1], tmp_path / "gnet8j")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_files_of_a_run(train, client, whole, tmp_path, monkeypatch):
    folder = tmp_path / "gnet8j"
    with monkeypatch.context() as patched:
        stop_at_epochs(patched)
        with pytest.raises(RunError):
            train()
    checkpoint, record = folder / "checkpoint" / "joint.pt", folder / "run.yaml"
    (folder / "checkpoint" / "joint.000009-00000000.lease").write_text('{"host')
    (folder / "driver.000003.hold").write_text('{"host')
    kept = {path: path.read_bytes() for path in (checkpoint, record)}
    for path, line in (
        (checkpoint, "damaged checkpoint .* delete it to start again"),
        (record, "run.yaml is not YAML|run.yaml: damaged"),
    ):
        truncate(path)
        with pytest.raises(RunError, match=line) as error:
            train()
        assert "\n" not in str(error.value)
        path.write_bytes(kept[path])
    truncate(folder / "plan.json")
    train()
    assert_same_run(whole[1], folder)
    epochs = [event["epoch"] for event in read_log(folder / "log.jsonl") if event["kind"] == "epoch"]
    assert epochs == [1, 2, 3], "what was trained before the damage was lost"
    assert list(folder.glob("*.hold")) == []


def test_damaged_files_of_an_ingestion(client, nsd, whole, tmp_path):
    """Stopped half-way, files damaged, continued."""
    target = tmp_path / "nsd.zarr"

    def stop(event):
        if event["kind"] == "task-done" and event["stage"] == "images":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(plan_ingest(str(nsd), str(target), **INGEST), client, listen=stop)
    building = tmp_path / "nsd.zarr.building"
    before = marks(building)
    truncate(building / "tasks" / "betas-subj01-session01.json")
    (building / "tasks" / "betas-subj01-session02.json").write_text("[]")
    record = building / "ingest.json"
    kept = record.read_bytes()
    truncate(record)
    with pytest.raises(StoreError, match=r"ingest\.json: damaged; begin again with --no-resume"):
        carry_out(plan_ingest(str(nsd), str(target), **INGEST), client)
    record.write_bytes(kept)
    ran: list[str] = []
    carry_out(
        plan_ingest(str(nsd), str(target), **INGEST),
        client,
        listen=lambda event: ran.append(event["key"]) if event["kind"] == "task-done" else None,
    )
    damaged = {"betas-subj01-session01", "betas-subj01-session02"}
    assert damaged <= set(ran)
    assert not (set(before) - damaged) & set(ran), "a task whose marker was sound ran again"
    assert contents(target) == contents(whole[0])


def test_a_task_that_fails_says_so_in_one_line_and_ends_everything(client, nsd, tmp_path, monkeypatch):
    from nsdflow.ingestion.tasks import betas as ingest_tasks

    def fail(*_, **__):
        raise OSError(5, "Input/output error", "/data/betas")

    monkeypatch.setattr(ingest_tasks, "write_shard", fail)
    with pytest.raises(NsdflowError, match=r"Input/output error.*; run the same command to continue") as error:
        carry_out(plan_ingest(str(nsd), str(tmp_path / "nsd.zarr"), **INGEST), client)
    assert "\n" not in str(error.value)
