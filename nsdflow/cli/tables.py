"""What commands print of finished runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nsdflow.analysis.summary import summary_table
from nsdflow.report import write_report
from nsdflow.runs import open_run

__all__ = ["print_summary", "write_reports"]


def print_summary(runs: Sequence[str], title: str = "validation accuracy of single trials") -> None:
    """Print the median validation accuracy beside the noise ceiling, by run and subject."""
    table = Table(title=f"{title}; correlations, medians over voxels", title_justify="left")
    table.add_column("run", no_wrap=True)
    table.add_column("subject")
    for heading in ("voxels", "accuracy", "noise ceiling", "ratio"):
        table.add_column(heading, justify="right")
    for run in runs:
        for row in summary_table(open_run(run)):
            figures = (f"{row.voxels:,}", f"{row.accuracy:.3f}", f"{row.noise_ceiling:.3f}", f"{row.ratio:.0%}")
            table.add_row(Path(run).name, row.subject, *figures)
    if table.row_count:
        Console().print(table)


def write_reports(runs: Sequence[str], *, quiet: bool = False) -> list[str]:
    """Write the page of each run and print where it is. A page that fails costs a line, not the finished run.

    Parameters
    ----------
    runs : sequence of str
        Run folders.
    quiet : bool
        Do not print the paths.

    Returns
    -------
    list of str
        Paths of the pages that were written.
    """
    written = []
    for run in runs:
        try:
            written.append(str(write_report(run)))
        except Exception as error:  # noqa: BLE001 - whatever fails in drawing, the results of the run are there
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"no report of {run}: {reason}; its results are complete, try: nsdflow report {run}", file=sys.stderr)
            continue
        if not quiet:
            print(f"report: {written[-1]}")
    return written
