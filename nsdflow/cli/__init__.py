"""The command line: each command is one call of the library, its arguments and its printing."""

from nsdflow.cli.app import main

__all__ = ["main"]
