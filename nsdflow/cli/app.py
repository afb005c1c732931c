"""The ``nsdflow`` command: what it consists of, and how mistakes are told."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nsdflow import __version__
from nsdflow.cli import data, runs, site
from nsdflow.errors import NsdflowError

__all__ = ["app", "main"]

app = typer.Typer(
    help="The Natural Scenes Dataset as labelled Zarr stores, and encoding models trained on it as Dask tasks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (site.demo, data.synth, data.check, data.masks, data.ingest, runs.run, runs.status, runs.report):
    app.command()(command)
app.command()(runs.export)
app.command()(site.doctor)


def _version(asked: bool) -> None:
    if asked:
        print(f"nsdflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; a mistake of the user is one line on stderr and exit status 2."""
    try:
        app()
    except NsdflowError as error:
        sys.exit(_tell(str(error)))
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        sys.exit(_tell(" ".join(f"{error.filename or 'file system'}: {error.strerror or error}".split())))
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is kept: run the same command to continue", file=sys.stderr)
        sys.exit(130)


def _tell(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
