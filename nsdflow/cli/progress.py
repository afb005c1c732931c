"""Progress in the terminal: a bar a stage and a bar a training, or plain lines where there is no terminal."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask.utils import format_bytes
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from nsdflow.monitor.state import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from nsdflow.monitor.events import Event

__all__ = ["Line", "Progress"]

#: Seconds between two plain lines about the same stage or training.
QUIET = 15.0


@dataclass
class Line:
    """Where one stage or one training stands; knows its rate and how long it will take."""

    name: str
    total: int
    done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    text: str = ""
    started: float = field(default_factory=time.monotonic)
    first: int = 0
    """What was done before we looked: it says nothing about the rate."""

    def seconds_left(self, now: float) -> float | None:
        """Time to the end at the mean rate since the start; None before anything was done."""
        fresh = self.done - self.first
        return (now - self.started) / fresh * (self.total - self.done) if fresh > 0 else None

    def rate(self, now: float) -> str:
        """Bytes a second, or the text of the last epoch."""
        if self.text or not self.bytes_done:
            return self.text
        return f"{format_bytes(int(self.bytes_done / max(now - self.started, 1e-3)))}/s"

    def describe(self, now: float) -> str:
        """``ingest 12/40 · 213 MiB/s · 2:10 left``."""
        left = self.seconds_left(now)
        eta = "" if left is None or self.done == self.total else f"{clock(left)} left"
        parts = (f"{self.name} {self.done}/{self.total}", self.rate(now), eta)
        return " · ".join(part for part in parts if part)


class Progress:
    """A listener that shows ``stage``, ``task-done``, ``task-failed``, ``epoch``, ``job`` and ``note`` events.

    Use it as a context manager. Events may come from any thread.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.lines: dict[str, Line] = {}
        self._lock = threading.RLock()
        self._said: dict[str, float] = {}
        self._ids: dict[str, TaskID] = {}
        self._bars = _bars(self.console) if self.console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            for line in self._update(event):
                self._show(line)

    def step(self, name: str, done: int, total: int) -> None:
        """Show where a loop of this process stands, which sends no events."""
        with self._lock:
            line = self.lines.setdefault(name, Line(name, total))
            line.done = done
            self._show(line)

    def _update(self, event: Event) -> Iterator[Line]:
        """Take an event in; gives the line that it changed."""
        match event["kind"]:
            case "stage":
                name, done = event["stage"], event["done"]
                self.lines[name] = Line(name, event["total"], done, event.get("bytes", 0), first=done)
                yield self.lines[name]
            case "task-done" if event["stage"] in self.lines:
                line = self.lines[event["stage"]]
                line.done += 1
                line.bytes_done += event.get("bytes", 0)
                yield line
            case "epoch":
                yield self._epoch(event)
            case "task-failed":
                self._say(f"{event['key']} failed: {event['error']}")
            case "job":
                self._say(f"job {event['id']} ({event['name']}) {event['state']}: {event['reason']}")
            case "note":
                self._say(event["text"])

    def _epoch(self, event: Event) -> Line:
        name = "/".join(str(event[part]) for part in ("run", "group") if event.get(part))
        epoch = event["epoch"]
        if name not in self.lines:
            start = time.monotonic() - event.get("seconds", 0.0)
            self.lines[name] = Line(name, event["epochs"], first=epoch - 1, started=start)
        line = self.lines[name]
        line.done = epoch
        shown = [f"{key} {event[key]:.4f}" for key in ("loss", "accuracy") if isinstance(event.get(key), float)]
        line.text = ", ".join([*shown, f"{event.get('seconds', 0.0):.1f} s/epoch"])
        return line

    def _show(self, line: Line) -> None:
        now = time.monotonic()
        if self._bars is not None:
            if line.name not in self._ids:
                self._ids[line.name] = self._bars.add_task(line.name, total=line.total, text="")
            bar = self._ids[line.name]
            self._bars.update(bar, completed=line.done, total=line.total, text=line.rate(now))
        elif line.done == line.total or now - self._said.get(line.name, float("-inf")) >= QUIET:
            self._said[line.name] = now
            self._say(line.describe(now))

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
