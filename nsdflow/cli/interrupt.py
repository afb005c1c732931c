"""Ctrl-C: the first stops the command and says what is kept, the second exits at once. The module imports little."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

__all__ = ["EXIT_STATUS", "ctrl_c"]

#: Exit status of a command that Ctrl-C ended: 128 + SIGINT.
EXIT_STATUS: Final = 130
#: Time to release locks, finish logs and cancel jobs before the process ends anyway. Workers of this machine end with
#: the process, and those of jobs when their scheduler is gone; checkpoints and markers are whole at any moment.
EXIT_TIMEOUT_S: Final = 1.2
#: Message at the first Ctrl-C, by command.
MESSAGES: Final[Mapping[str, str]] = {
    "run": "stopping; finished epochs are kept, the same command continues",
    "demo": "stopping; finished epochs are kept, the same command continues",
    "ingest": "stopping; finished sessions are kept, the same command continues",
    "status": "no longer watching; the runs themselves go on",
}
#: Message of the other commands.
OTHER_MESSAGE: Final = "stopping"
#: Escape sequence that makes a terminal show its cursor.
SHOW_CURSOR: Final = b"\x1b[?25h"


@contextmanager
def ctrl_c(arguments: Sequence[str]) -> Iterator[None]:
    """Handle Ctrl-C while a command runs: the first stops it and says what is kept, the second exits at once.

    A thread hears of the signal, since Python runs its handlers only between instructions of the main thread, which may
    be inside a long matrix product.

    Parameters
    ----------
    arguments : sequence of str
        The words of the command line after ``nsdflow``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers of signals
        return
    command = next((word for word in arguments if not word.startswith("-")), "")
    heard, told = os.pipe()
    os.set_blocking(told, False)
    said = threading.Event()
    message = MESSAGES.get(command, OTHER_MESSAGE)
    listener = threading.Thread(target=_listen, args=(heard, message, said), daemon=True)
    listener.start()
    fd_before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGINT, _stop_once())
    try:
        yield
    except KeyboardInterrupt:
        said.wait(EXIT_TIMEOUT_S)
        with suppress(OSError, ValueError):  # the reader of a pipe is interrupted, too
            sys.stdout.flush()
            sys.stderr.flush()
        _leave()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.set_wakeup_fd(fd_before)
        os.close(told)
        listener.join()


def _stop_once() -> Callable[[int, FrameType | None], None]:
    """A handler that interrupts the main thread at the first signal; only the listener handles later ones."""
    interrupted = False

    def handle(_: int, __: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    return handle


def _listen(heard: int, message: str, said: threading.Event) -> None:
    """Read the numbers of signals from a pipe, until it is closed."""
    interrupted = False
    while numbers := os.read(heard, 64):
        for _ in range(numbers.count(signal.SIGINT)):
            if interrupted:
                _leave()
            interrupted = True
            with suppress(OSError):
                os.write(2, f"\n{message}\n".encode())
            said.set()
            timer = threading.Timer(EXIT_TIMEOUT_S, _leave)
            timer.daemon = True
            timer.start()
    os.close(heard)


def _leave() -> None:
    """End the process without waiting for threads and exit handlers, and show the cursor that progress bars hide."""
    if os.isatty(2):
        with suppress(OSError):
            os.write(2, SHOW_CURSOR)
    os._exit(EXIT_STATUS)
