"""Progress in the terminal: a bar per stage and training, or plain lines where the output is no terminal."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from dask.utils import format_bytes
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nsdflow.monitor.state import LiveState, Stage, Training, format_duration

if TYPE_CHECKING:
    from rich.progress import TaskID

    from nsdflow.monitor.events import Event

__all__ = ["TerminalProgress", "completed", "describe", "shorten", "shorten_lines"]

#: Time between two plain lines about the same stage or training.
LINE_INTERVAL_S: Final = 15.0
#: Terminals with fewer columns get shorter texts.
WIDE_COLUMNS: Final = 110
#: Longest name of a bar, in characters.
NAME_CHARACTERS: Final = 24


class TerminalProgress:
    """A listener that shows events on the terminal; a context manager. Events may come from any thread.

    Parameters
    ----------
    console : rich.console.Console, optional
        Default: stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.state = LiveState()
        self._lock = threading.RLock()
        self._printed: dict[str, tuple[float, str]] = {}
        self._bar_ids: dict[str, TaskID] = {}
        self._bars = _bars(self.console) if self.console.is_terminal else None

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            changed = self.state.take(event)
            if isinstance(changed, str):
                self._print(changed)
            elif changed is not None:
                self._show(changed)

    def step(self, name: str, done: int, total: int) -> None:
        """Show the progress of a loop in this process, which sends no events."""
        with self._lock:
            stage = self.state.stages.setdefault(name, Stage("", name, total, 0, 0, time.time()))
            stage.done = done
            self._show(stage)

    def _show(self, line: Stage | Training) -> None:
        now = time.time()
        if self._bars is not None:
            self._update_bar(line, now)
            return
        printed, activity = self._printed.get(line.label, (float("-inf"), ""))
        new_activity = isinstance(line, Training) and line.activity not in ("", activity)
        if line.done == line.total > 0 or new_activity or now - printed >= LINE_INTERVAL_S:
            activity = (line.activity or activity) if isinstance(line, Training) else ""
            self._printed[line.label] = now, activity
            self._print(describe(line, now))

    def _update_bar(self, line: Stage | Training, now: float) -> None:
        assert self._bars is not None
        self._bars.start()  # with the first bar: finished runs show none
        if line.label not in self._bar_ids:
            if isinstance(line, Stage):
                self._remove_finished(line.run)
            name = shorten(line.label, NAME_CHARACTERS)
            self._bar_ids[line.label] = self._bars.add_task(name, total=line.total or None, text="", count="", left="")
        left = line.seconds_left(now)
        narrow = self.console.width < WIDE_COLUMNS
        self._bars.update(
            self._bar_ids[line.label],
            completed=completed(line),
            total=line.total or None,
            count=f"{line.done}/{line.total}" if line.total else "",
            text=_text(line, now, narrow=narrow),
            left=format_duration(left) if left else "",
        )

    def _remove_finished(self, run: str) -> None:
        """Remove the bars of earlier runs when the next run of a sequence begins; their last lines stay."""
        assert self._bars is not None
        for lines in (self.state.stages, self.state.trainings):
            for label, line in lines.items():
                own = line.run if isinstance(line, Stage) else label.partition("/")[0]
                if own != run and line.done == line.total and label in self._bar_ids:
                    self._bars.remove_task(self._bar_ids.pop(label))
                    self._print(describe(line, time.time()))

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def describe(line: Stage | Training, now: float) -> str:
    """One plain line: ``gnet8j: train 12/40 · 213 MiB/s · 2:10 left``."""
    left = line.seconds_left(now)
    eta = f"{format_duration(left)} left" if left and line.done != line.total else ""
    count = f" {line.done}/{line.total}" if line.total else ""
    return " · ".join(part for part in (f"{line.label}{count}", _text(line, now), eta) if part)


def shorten(text: str, length: int) -> str:
    """Replace the middle of a text that is too long.

    >>> shorten("/scratch/ada/project/runs/gnet8j", 20)
    '/scratch/…uns/gnet8j'
    """
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def shorten_lines(text: str, width: int) -> str:
    """Shorten the middle of lines that are too long; the columns of a table stay aligned.

    Parameters
    ----------
    text : str
        Paragraphs with blank lines between them; the lines of a table are one paragraph.
    width : int
        Longest line, in characters.
    """
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        longest = max((len(line) for line in lines), default=0)
        padded = (line.ljust(longest) for line in lines)
        paragraphs.append("\n".join(shorten(line, width).rstrip() for line in padded) if longest > width else paragraph)
    return "\n\n".join(paragraphs)


def _text(line: Stage | Training, now: float, *, narrow: bool = False) -> str:
    """Bytes per second of a stage; loss and accuracy of a training, or its activity before the first epoch."""
    if isinstance(line, Stage):
        return f"{format_bytes(int(line.bytes_per_second(now)))}/s" if line.bytes_done else ""
    if not line.last:
        return line.current()
    names = {"loss": "loss", "accuracy": "acc" if narrow else "accuracy"}
    digits = 3 if narrow else 4
    shown = [
        f"{name} {line.last[key]:.{digits}f}" for key, name in names.items() if isinstance(line.last.get(key), float)
    ]
    if not narrow:
        shown.append(f"{line.last.get('seconds', 0.0):.1f} s/epoch")
    return ", ".join(shown)


def completed(line: Stage | Training) -> float:
    """Tasks or epochs that are done, and the share of the current epoch."""
    done, batches = (0, 0) if isinstance(line, Stage) else line.batches
    return line.done + (done / batches if batches else 0.0)


def _bars(console: Console) -> Progress:
    """Columns that fit into 80 characters: name, bar, count, text and the time left."""
    width = max(8, min(40, console.width - 72))
    columns = (TextColumn(f"{{task.{part}}}") for part in ("fields[count]", "fields[text]", "fields[left]"))
    return Progress(TextColumn("{task.description}"), BarColumn(bar_width=width), *columns, console=console)
