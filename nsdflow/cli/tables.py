"""Tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nsdflow.analysis.summary import summary_table
from nsdflow.runs import open_run

__all__ = ["print_summary"]


def print_summary(runs: Sequence[str], title: str = "validation accuracy of single trials") -> None:
    """Median validation accuracy next to the noise ceiling, by run and subject."""
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
