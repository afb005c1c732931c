"""Terminal output for a stream of events."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from nsdflow.monitor.events import make_event
from nsdflow.monitor.terminal import TerminalProgress, shorten, shorten_lines


def shown(events, *, terminal: bool, width: int = 120) -> str:
    out = io.StringIO()
    with TerminalProgress(Console(file=out, force_terminal=terminal, width=width)) as progress:
        for event in events:
            progress(event)
    return out.getvalue()


STAGE = make_event("stage", run="nsd.zarr", stage="betas", total=4, done=1, bytes=3 << 20)
DONE = make_event("task-done", run="nsd.zarr", key="a", stage="betas", seconds=0.1, bytes=1 << 20)
EPOCH = make_event("epoch", run="gnet8r", group="V1", epoch=50, epochs=50, seconds=2.0, loss=0.5, accuracy=0.25)


def test_plain_lines_name_the_run_at_the_start_and_end_of_a_stage():
    lines = shown([STAGE, DONE, DONE, DONE], terminal=False).splitlines()
    assert lines[0] == "nsd.zarr: betas 1/4"
    assert lines[-1].startswith("nsd.zarr: betas 4/4 · ")
    assert lines[-1].endswith("iB/s")
    assert len(lines) == 2  # the events in between give no line


def test_two_pipelines_with_a_stage_of_the_same_name_are_told_apart():
    events = [make_event("stage", run=run, stage="train", total=1, done=0, bytes=0) for run in ("gnet8j", "gnet8r")]
    done = make_event("task-done", run="gnet8j", key="a", stage="train", seconds=0.1, bytes=0)
    lines = shown([*events, done], terminal=False).splitlines()
    assert lines == ["gnet8j: train 0/1", "gnet8r: train 0/1", "gnet8j: train 1/1"]


def test_a_loop_without_events_shows_its_progress():
    out = io.StringIO()
    with TerminalProgress(Console(file=out, force_terminal=False, width=120)) as progress:
        for done in range(1, 5):
            progress.step("images", done, 4)
    lines = out.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == ["images 1/4", "images 4/4"]


def test_bars_count_up_to_the_total():
    text = shown([STAGE, DONE, DONE, DONE], terminal=True)
    assert "betas" in text
    assert "4/4" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_an_epoch_shows_loss_accuracy_and_time(terminal):
    text = shown([EPOCH], terminal=terminal)
    for part in ("gnet8r/V1", "50/50", "loss 0.5000", "accuracy 0.2500", "2.0 s/epoch"):
        assert part in text


def test_before_the_first_epoch_it_reads_data_and_counts_batches():
    reading = make_event("activity", run="gnet8j", group="joint", text="reading data", epochs=50)
    batches = [
        make_event("activity", run="gnet8j", group="joint", text="training", epochs=50, done=done, total=350)
        for done in (1, 120, 121)
    ]
    lines = shown([reading, *batches], terminal=False).splitlines()
    assert lines == ["gnet8j/joint 0/50 · reading data", "gnet8j/joint 0/50 · batch 1/350"]
    assert "batch 121/350" in shown([reading, *batches], terminal=True)


def test_eighty_columns_keep_name_count_accuracy_and_time_left():
    long_run = "synthetic_transfer_of_my_own_project"
    epoch = {**EPOCH, "run": long_run, "epoch": 12, "seconds": 3600.0}
    stage = make_event("stage", run=long_run, stage="train", total=4, done=0, bytes=0)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown([stage, epoch], terminal=True, width=80))
    (line,) = [line for line in text.splitlines() if "12/50" in line][-1:]
    assert len(line) <= 80
    for part in ("synthetic", "V1", "12/50", "acc 0.250", "38:00:00"):
        assert part in line, line


def test_the_middle_of_a_long_name_is_left_out():
    assert shorten("short", 10) == "short"
    shortened = shorten("/scratch/ada/project/runs/gnet8j", 20)
    assert (len(shortened), shortened[:5], shortened[-6:]) == (20, "/scra", "gnet8j")


def test_a_table_that_is_too_wide_loses_its_middle_and_stays_aligned():
    text = "title\n\n  run       middle           right\n  gnet8j    1                0.25\n\nend"
    assert shorten_lines(text, 100) == text
    title, table, end = shorten_lines(text, 20).split("\n\n")
    assert (title, end) == ("title", "end")
    first, second = table.splitlines()
    assert len(first) == 20
    assert (first.index("right"), first[:6], second[:6]) == (second.index("0.25"), "  run ", "  gnet")


def test_failures_jobs_and_notes_are_one_line_each():
    events = [
        make_event("task-failed", key="betas-1", stage="betas", error="disk full [red]"),
        make_event("job", pool="gpu", name="gpu-0", id="4711", state="lost", reason="vanished", jobs={}),
        make_event("note", text="hello"),
    ]
    assert shown(events, terminal=False).splitlines() == [
        "betas-1 failed: disk full [red]",
        "job 4711 (gpu-0) lost: vanished",
        "hello",
    ]
