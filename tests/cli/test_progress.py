"""What the terminal shows of a stream of events."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nsdflow.cli.progress import Line, Progress
from nsdflow.monitor.events import make_event


def shown(events, *, terminal: bool) -> str:
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=terminal, width=120)) as progress:
        for event in events:
            progress(event)
    return out.getvalue()


STAGE = make_event("stage", stage="betas", total=4, done=1, bytes=3 << 20)
DONE = make_event("task-done", key="a", stage="betas", seconds=0.1, bytes=1 << 20)


def test_plain_lines_say_where_a_stage_stands_at_its_start_and_end():
    lines = shown([STAGE, DONE, DONE, DONE], terminal=False).splitlines()
    assert lines[0] == "betas 1/4"
    assert lines[-1].startswith("betas 4/4 · ")
    assert lines[-1].endswith("iB/s")
    assert len(lines) == 2  # what happens in between within seconds is not worth a line


def test_a_loop_without_events_says_where_it_stands():
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=False, width=120)) as progress:
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
    epoch = make_event("epoch", run="gnet8r", group="V1", epoch=50, epochs=50, seconds=2.0, loss=0.5, accuracy=0.25)
    text = shown([epoch], terminal=terminal)
    for part in ("gnet8r/V1", "50/50", "loss 0.5000", "accuracy 0.2500", "2.0 s/epoch"):
        assert part in text


def test_failures_jobs_and_notes_are_one_line_each():
    events = [
        make_event("task-failed", key="betas-1", stage="betas", error="disk full [red]"),
        make_event("job", pool="gpu", name="gpu-0", id="4711", state="lost", reason="vanished"),
        make_event("note", text="hello"),
    ]
    assert shown(events, terminal=False).splitlines() == [
        "betas-1 failed: disk full [red]",
        "job 4711 (gpu-0) lost: vanished",
        "hello",
    ]


def test_the_time_left_counts_only_what_was_done_while_looking():
    line = Line("train", total=50, done=30, first=20, started=100.0)
    assert line.seconds_left(now=200.0) == pytest.approx(200.0)  # 10 epochs took 100 s, 20 are left
    assert Line("train", total=50, done=20, first=20, started=100.0).seconds_left(now=200.0) is None
    assert "3:20 left" in line.describe(now=200.0)
