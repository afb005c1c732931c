"""The ``nsdflow`` command: its table of commands, and the handling of errors."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, Final

import typer

from nsdflow import __version__
from nsdflow.cli.commands import adopt, check, compare, demo, doctor, export, info, ingest, report, run, synth
from nsdflow.cli.interrupt import EXIT_STATUS
from nsdflow.errors import NsdflowError

__all__ = ["COMMANDS", "app", "run_command"]

#: Every command, in the order of ``nsdflow --help``. A new command is a function in a module of
#: ``nsdflow/cli/commands`` and one line here. These modules import dask, torch, xarray, rich and pydantic inside their
#: functions only.
COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    demo.demo,
    synth.synth,
    check.check,
    check.masks,
    ingest.ingest,
    run.run,
    run.status,
    report.report,
    compare.compare,
    report.explore,
    export.export,
    info.list_,
    info.info,
    adopt.adopt,
    doctor.doctor,
)

#: Base of what typer raises for a command line that it cannot parse; typer exports the subclass alone.
_UsageError: Final[Any] = typer.BadParameter.__base__

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


def run_command() -> None:
    """Run the command. A mistake of the user is one line on stderr and exit status 2."""
    try:
        # without arguments typer prints the help, and counts that as an error
        status = app(prog_name="nsdflow", standalone_mode=len(sys.argv) == 1)
        if status == EXIT_STATUS:
            raise KeyboardInterrupt  # typer turned it into a status
        sys.exit(status)
    except _UsageError as error:
        sys.exit(_fail(_usage(error)))
    except NsdflowError as error:
        sys.exit(_fail(str(error)))
    except BrokenPipeError:  # ``nsdflow status runs | head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        sys.exit(_fail(" ".join(f"{error.filename or 'file system'}: {error.strerror or error}".split())))
    except UnicodeDecodeError as error:
        modules = [frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if "matplotlib" not in modules:  # which reads its file when imported
            raise
        sys.exit(_fail(f"matplotlibrc: not a text in UTF-8 ({error.reason}); mend or remove it, or set MATPLOTLIBRC"))
    except ValueError as error:
        if "dask config file" not in str(error):  # from dask.config, which reads its files when imported
            raise
        sys.exit(_fail(" ".join(str(error).split())))


def _usage(error: Any) -> str:
    """Describe a mistake in the words of the command line: an unknown option, a missing argument, a bad value."""
    text = " ".join(error.format_message().split()).rstrip(".")
    text = re.sub(r"Input should be (.*?)(, unable to parse.*)?$", r"it must be \1", text)
    possible = getattr(error, "possibilities", None) or ()
    if near := get_close_matches(getattr(error, "option_name", None) or "", possible, 1):
        text = f"{text.partition(' (Possible')[0]}; did you mean {near[0]}?"
    text = re.sub(r"\. Did you mean", "; did you mean", text)
    command = error.ctx.command_path if error.ctx else "nsdflow"
    return f"{text[:1].lower()}{text[1:]}{' See' if text.endswith('?') else '; see'} {command} --help"


def _fail(message: str) -> int:
    from nsdflow.io.paths import public
    from nsdflow.io.text import for_terminal

    print(f"error: {for_terminal(public(message))}", file=sys.stderr)
    return 2
