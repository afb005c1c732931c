"""Tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nsdflow.analysis.summary import summary_table
from nsdflow.store import open_run

__all__ = ["print_summary"]


def print_summary(runs: Sequence[str], title: str = "single-trial validation accuracy") -> None:
    """Median validation accuracy next to the noise ceiling, by run and subject."""
    table = Table(title=title, title_justify="left")
    table.add_column("run")
    table.add_column("subject")
    for heading in ("voxels", "median accuracy (r)", "median noise ceiling (r)", "accuracy / ceiling"):
        table.add_column(heading, justify="right")
    for run in runs:
        for row in summary_table(open_run(run)):
            figures = (f"{row.voxels:,}", f"{row.accuracy:.3f}", f"{row.noise_ceiling:.3f}", f"{row.ratio:.0%}")
            table.add_row(Path(run).name, row.subject, *figures)
    if table.row_count:
        Console().print(table)
