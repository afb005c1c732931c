"""The ``nsdflow`` command: its table of commands, and how errors and Ctrl-C end it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Final

import typer

from nsdflow import __version__
from nsdflow.cli import adopt, compare, data, look, results, runs, site
from nsdflow.errors import NsdflowError

__all__ = ["COMMANDS", "app", "main"]

#: Every command, in the order of ``nsdflow --help``. A new command is a function in a module of this folder and one
#: line here. These modules import dask, torch, xarray, rich and pydantic inside their functions only.
COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    site.demo,
    data.synth,
    data.check,
    data.masks,
    data.ingest,
    runs.run,
    runs.status,
    results.report,
    compare.compare,
    results.explore,
    results.export,
    look.list_,
    look.info,
    adopt.adopt,
    site.doctor,
)

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

app = typer.Typer(
    help="The Natural Scenes Dataset as labelled Zarr stores, and encoding models trained on it as Dask tasks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command(command.__name__.rstrip("_"))(command)


def _version(asked: bool) -> None:
    if asked:
        print(f"nsdflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command. A mistake of the user is one line on stderr and exit status 2."""
    with _ctrl_c(sys.argv[1:]):
        try:
            app()
        except NsdflowError as error:
            sys.exit(_fail(str(error)))
        except BrokenPipeError:  # ``nsdflow status runs | head``
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            if error.filename is None and error.strerror is None:
                raise
            sys.exit(_fail(" ".join(f"{error.filename or 'file system'}: {error.strerror or error}".split())))
        except ValueError as error:
            if "dask config file" not in str(error):  # the words of dask.config, which reads its files when imported
                raise
            sys.exit(_fail(" ".join(str(error).split())))


def _fail(message: str) -> int:
    from nsdflow.io.paths import public

    print(f"error: {public(message)}", file=sys.stderr)
    return 2


@contextmanager
def _ctrl_c(arguments: Sequence[str]) -> Iterator[None]:
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
