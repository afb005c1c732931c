"""Pictures and pages of runs: matplotlib figures of labelled results, and one HTML file per run."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def _import_matplotlib() -> None:
    """Import matplotlib although ``MPLBACKEND`` may name a backend that is not installed here.

    With such a name, which a notebook leaves in the environment of its child processes, the import itself fails. The
    name is put back, and is used where it exists.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            mpl.rcParams["backend"] = backend


if "matplotlib" not in sys.modules:
    _import_matplotlib()

from nsdflow.report.html import write_report  # noqa: E402 - matplotlib first

__all__ = ["write_report"]
