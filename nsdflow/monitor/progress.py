"""Progress of a call from Python: below the cell of a notebook, on stderr, or in the caller's function."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsdflow.monitor.events import Event, Listener

__all__ = ["Listen", "progress"]

#: Where progress goes: a listener, None for nowhere, or ``"auto"``: the notebook, or stderr elsewhere.
Listen: TypeAlias = "Listener | Literal['auto'] | None"


@contextmanager
def progress(listen: Listen) -> Iterator[Listener | None]:
    """Give the listener that shows progress while the block runs.

    Parameters
    ----------
    listen : callable, "auto" or None
        ``"auto"`` shows progress below the cell of a Jupyter notebook, and on stderr elsewhere. None shows none.

    Yields
    ------
    callable or None
        Takes the events.
    """
    if listen != "auto":
        yield listen
        return
    with ExitStack() as stack:
        yield _Automatic(stack)


class _Automatic:
    """Decides at the first event, so that a call with nothing to do imports nothing."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._shown: Any = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._shown is None:
                self._shown = self._stack.enter_context(_display())
        self._shown(event)


def _display() -> Any:
    """A listener that is a context manager."""
    if _in_notebook():
        from nsdflow.monitor.notebook import NotebookProgress

        return NotebookProgress()
    from nsdflow.monitor.terminal import TerminalProgress

    return TerminalProgress()


def _in_notebook() -> bool:
    """Whether this process is a Jupyter kernel. IPython is not imported: a kernel has imported it."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
