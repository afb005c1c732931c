"""Ctrl-C: the first says what is kept, a second one leaves at once. Imports little, so that it is there first."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["EXIT_STATUS", "ctrl_c"]

#: Exit status of a command that Ctrl-C ended: 128 + SIGINT.
EXIT_STATUS: Final = 130
#: Time to release locks, finish logs and cancel jobs before the process ends anyway. Workers of this machine end with
#: the process, and those of jobs when their scheduler is gone; checkpoints and markers are whole at any moment.
EXIT_TIMEOUT_S: Final = 1.2
#: What a command says at once when it is interrupted, by its name.
MESSAGES: Final[Mapping[str, str]] = {
    "run": "stopping; finished epochs are kept, the same command continues",
    "demo": "stopping; finished epochs are kept, the same command continues",
    "ingest": "stopping; finished sessions are kept, the same command continues",
}


@contextmanager
def ctrl_c(arguments: Sequence[str]) -> Iterator[None]:
    """Handle Ctrl-C while a command runs: the first says what is kept, a second one leaves at once.

    Parameters
    ----------
    arguments : sequence of str
        The words of the command line after ``nsdflow``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers of signals
        return
    command = next((word for word in arguments if not word.startswith("-")), "")
    before = signal.signal(signal.SIGINT, _handler(MESSAGES.get(command, "")))
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_STATUS)  # without waiting for threads and exit handlers
    finally:
        signal.signal(signal.SIGINT, before)


def _handler(message: str) -> Callable[[int, FrameType | None], None]:
    interrupted = False

    def handle(_: int, __: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            os._exit(EXIT_STATUS)
        interrupted = True
        if message:
            os.write(sys.stderr.fileno(), f"\n{message}\n".encode())
        timer = threading.Timer(EXIT_TIMEOUT_S, os._exit, (EXIT_STATUS,))
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    return handle
