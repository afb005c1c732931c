"""Progress below the cell of a notebook, with a kernel that only records its output."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from nsdflow.monitor.events import make_event
from nsdflow.monitor.notebook import UPDATE_INTERVAL_S, NotebookProgress
from nsdflow.monitor.progress import progress

STAGE = make_event("stage", run="nsd.zarr", stage="betas", total=4, done=1, bytes=3 << 20)
DONE = make_event("task-done", run="nsd.zarr", key="a", stage="betas", seconds=0.1, bytes=1 << 20)
EPOCH = make_event("epoch", run="gnet8j", group="joint", epoch=3, epochs=50, seconds=2.0, loss=0.5, accuracy=0.25)
LINK = make_event("note", text="dashboard, here: http://127.0.0.1:8787/nsdflow?a=1&b=<2>")


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Replaces IPython's modules in a kernel; the list holds each state of the output."""
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            assert raw
            shown.append(data)

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert not shown, "one output per call"
        assert raw
        assert display_id
        shown.append(data)
        return Handle()

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    displays: Any = types.ModuleType("IPython.display")
    displays.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    return shown


def test_a_notebook_gets_one_output_that_is_updated(outputs: list[dict[str, str]]) -> None:
    with progress("auto") as listen:
        assert listen is not None
        assert not outputs, "nothing is shown before there is something to show"
        for event in (LINK, STAGE, DONE, DONE, EPOCH):
            listen(event)
    last = outputs[-1]
    assert '<progress max="4" value="3.000">' in last["text/html"]
    assert '<progress max="50" value="3.000">' in last["text/html"]
    assert "nsd.zarr: betas 3/4" in last["text/plain"]
    assert "loss 0.5000" in last["text/html"]
    assert '<a href="http://127.0.0.1:8787/nsdflow?a=1' in last["text/html"]
    assert "<2>" not in last["text/html"]


def test_events_in_quick_succession_cost_few_updates(outputs: list[dict[str, str]]) -> None:
    with progress("auto") as listen:
        assert listen is not None
        for _ in range(1000):
            listen(STAGE)
    assert len(outputs) <= 3 + 2 / UPDATE_INTERVAL_S
    assert '<progress max="4"' in outputs[-1]["text/html"]


def test_many_finished_bars_make_room() -> None:
    shown = NotebookProgress()
    for number in range(40):
        shown.state.take(
            make_event("stage", run=f"run{number}", stage="train", total=1, done=int(number < 39), bytes=0)
        )
    assert shown.html().count("<progress") <= 13
    assert "run39: train 0/1" in shown.html()


def test_elsewhere_progress_goes_to_stderr_or_where_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with progress("auto") as listen:
        assert listen is not None
        listen(STAGE)
    assert capsys.readouterr() == ("", "nsd.zarr: betas 1/4\n")
    assert "IPython" not in sys.modules
    events: list[Any] = []
    for own in (events.append, None):
        with progress(own) as listen:
            assert listen is own
