"""The state that results from a stream of events."""

from __future__ import annotations

import pytest

from nsdflow.monitor.state import LiveState, format_duration


def epoch(number: int, at: float, **fields) -> dict:
    return {"kind": "epoch", "time": at, "run": "gnet8r", "group": "V1", "epoch": number, "epochs": 10, **fields}


def test_an_epoch_trained_again_replaces_what_came_of_it_before():
    live = LiveState()
    for number, loss in ((1, 5.0), (2, 4.0), (3, 3.0), (2, 4.5), (3, 3.5)):  # interrupted after 3, continued from 1
        live.take(epoch(number, at=number, loss=loss, accuracy=0.1 * number, seconds=2.0))
    training = live.trainings["gnet8r/V1"]
    assert training.epochs == [1, 2, 3]
    assert training.loss == [5.0, 4.5, 3.5]
    assert training.accuracy == pytest.approx([0.1, 0.2, 0.3])


def test_a_training_row_says_how_far_how_good_how_long_and_how_safe():
    live = LiveState()
    live.take(
        epoch(
            4,
            at=1000.0,
            loss=0.5,
            holdout_loss=0.75,
            accuracy=0.25,
            seconds=60.0,
            gpu_memory=3 << 30,
            worker_name="gpu-1",
        )
    )
    (row,) = live.training_rows(now=1065.0)
    assert row == {
        "training": "gnet8r/V1",
        "epoch": "4 / 10",
        "loss": "0.5000",
        "holdout loss": "0.7500",
        "median holdout accuracy": "0.2500",
        "s / epoch": "60.0",
        "time left": "6:00",
        "checkpoint age": "1:05",
        "GPU memory": "3.0 GiB",
        "worker": "gpu-1",
    }


def test_what_a_training_does_before_an_epoch_is_its_state():
    live = LiveState()
    activity = {"kind": "activity", "time": 0.0, "run": "gnet8r", "group": "V1", "epochs": 10}
    live.take({**activity, "text": "reading data"})
    assert live.training_rows(0.0) == [{"training": "gnet8r/V1", "epoch": "0 / 10", "state": "reading data"}]
    live.take({**activity, "text": "training", "done": 3, "total": 40})
    assert live.training_rows(0.0)[0]["state"] == "batch 3/40"
    live.take(epoch(1, at=5.0, loss=1.0))
    assert "state" not in live.training_rows(5.0)[0]


def test_accuracy_by_subject_is_that_of_the_last_epoch():
    live = LiveState()
    for number in (1, 2):
        live.take(epoch(number, at=0.0, subjects={"subj02": 0.1 * number, "subj01": 0.2 * number}))
    assert live.accuracy_by_subject() == {("subj01", "gnet8r/V1"): 0.4, ("subj02", "gnet8r/V1"): 0.2}


def test_stages_count_and_estimate_from_what_was_done_now():
    live = LiveState()
    live.take({"kind": "stage", "time": 100.0, "stage": "betas", "total": 10, "done": 4})
    assert live.stage_rows(now=200.0) == [{"stage": "betas", "tasks": "4 / 10", "time left": ""}]
    for _ in range(2):
        live.take({"kind": "task-done", "time": 150.0, "stage": "betas"})
    assert live.stage_rows(now=200.0) == [{"stage": "betas", "tasks": "6 / 10", "time left": "3:20"}]
    for _ in range(4):
        live.take({"kind": "task-done", "time": 150.0, "stage": "betas"})
    assert live.stage_rows(now=200.0)[0]["time left"] == "done"


def test_jobs_and_failures_are_news_the_newest_first():
    live = LiveState()
    jobs = {"gpu": {"queued": 1, "up": 2, "maximum": 4}}
    live.take(
        {"kind": "job", "time": 0.0, "name": "gpu-0", "pool": "gpu", "state": "lost", "reason": "x", "jobs": jobs}
    )
    live.take({"kind": "task-failed", "time": 0.0, "key": "betas-1", "stage": "betas", "error": "disk full"})
    assert live.job_rows() == [{"pool": "gpu", "queued": "1", "up": "2", "maximum": "4"}]
    assert [line.split(" ", 1)[1] for line in live.news] == ["betas-1 failed: disk full", "job gpu-0 lost: x"]
    for number in range(50):
        live.take({"kind": "note", "time": 0.0, "text": str(number)})
    assert len(live.news) == 20


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (-90, "0:00"), (59.6, "1:00"), (3725, "1:02:05")])
def test_durations(seconds, text):
    assert format_duration(seconds) == text
