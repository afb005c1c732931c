"""``nsdflow demo``: does nsdflow work?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nsdflow.cli.options import Workers, normalized

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder that receives all files of the demo.", callback=normalized)] = Path(
        "demo"
    ),
    workers: Workers = None,
) -> None:
    """Synthetic NSD -> store -> gnet8j, a control, fwRF -> reports, in two minutes on two cores.

    Example: `nsdflow demo --out demo`
    """
    # the tasks use the cores; threads of linear algebra that wait for each other would only burn time
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from nsdflow.cli.session import print_summary, session, write_reports
    from nsdflow.pipelines.demo import run_demo

    # one process: at this size the imports of workers would take longer than their work
    with session("threads", workers=workers or 2, dashboard="127.0.0.1") as (start, progress):
        folders = run_demo(out, start(), listen=progress, progress=progress.step)
    print_summary(folders, title="synthetic NSD: accuracy of single trials, and the ceiling that was planted")
    reports = write_reports(folders, quiet=True)
    if reports:
        print(f"open {reports[0]} in a browser")
