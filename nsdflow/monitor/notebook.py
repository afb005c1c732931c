"""Progress in a notebook: one output below the cell that shows a bar per stage and training, and links."""

from __future__ import annotations

import re
import threading
import time
from html import escape
from typing import Any, Final

from nsdflow.monitor.events import Event
from nsdflow.monitor.state import LiveState, Stage, Training
from nsdflow.monitor.terminal import completed, describe

__all__ = ["NotebookProgress"]

#: Time between two updates of the output.
UPDATE_INTERVAL_S: Final = 0.25
#: Largest number of bars; finished ones are removed first.
MOST_BARS: Final = 12
#: Number of lines of information that are shown, the latest ones.
MOST_NOTES: Final = 6


class NotebookProgress:
    """A listener that shows events below the cell of a notebook; a context manager. Events may come from any thread."""

    def __init__(self) -> None:
        self.state = LiveState()
        self.notes: list[str] = []
        self._lock = threading.RLock()
        self._handle: Any = None
        self._updated = 0.0

    def __enter__(self) -> NotebookProgress:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._handle is not None:
                self._show()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            changed = self.state.take(event)
            if isinstance(changed, str):
                self.notes = [*self.notes, changed][-MOST_NOTES:]
            if changed is not None and (isinstance(changed, str) or time.time() - self._updated > UPDATE_INTERVAL_S):
                self._show()

    def _show(self) -> None:
        from IPython.display import display  # type: ignore[import-not-found]

        shown = {"text/html": self.html(), "text/plain": self.text()}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
        self._updated = time.time()

    def text(self) -> str:
        """The same as plain lines."""
        now = time.time()
        return "\n".join([*self.notes, *(describe(line, now) for line in self._lines())])

    def html(self) -> str:
        """Notes with their links, then a bar per stage and training."""
        now = time.time()
        notes = "".join(f"<div>{_linked(note)}</div>" for note in self.notes)
        rows = "".join(_row(line, now) for line in self._lines())
        return f'<div class="nsdflow-progress">{notes}<table>{rows}</table></div>'

    def _lines(self) -> list[Stage | Training]:
        lines: list[Stage | Training] = [*self.state.stages.values(), *self.state.trainings.values()]
        spare = len(lines) - MOST_BARS
        for line in [line for line in lines if line.done == line.total > 0][: max(spare, 0)]:
            lines.remove(line)
        return lines


def _row(line: Stage | Training, now: float) -> str:
    name, *rest = describe(line, now).split(" · ")
    bar = f'<progress max="{line.total or 1}" value="{completed(line):.3f}"></progress>'
    cells = (escape(name), bar, escape(" · ".join(rest)))
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"


def _linked(note: str) -> str:
    """A line of information as HTML, with its address as a link."""
    return re.sub(r"(https?://[^\s<>&\"]+)", r'<a href="\1" target="_blank">\1</a>', escape(note))
