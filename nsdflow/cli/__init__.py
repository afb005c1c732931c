"""The command line: each command is one call of the library, its arguments and its printing."""

from __future__ import annotations

import sys

from nsdflow.cli.interrupt import ctrl_c

__all__ = ["main"]


def main() -> None:
    """Run the command ``nsdflow``; Ctrl-C is handled before anything is imported."""
    with ctrl_c(sys.argv[1:]):
        from nsdflow.cli.app import run_command

        run_command()
