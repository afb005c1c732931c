"""Tables that commands print."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from nsdflow.analysis.summary import summary_table
from nsdflow.store import open_run

__all__ = ["print_summary"]


def print_summary(run: str) -> None:
    """Median validation accuracy next to the noise ceiling, by subject."""
    table = Table(title=f"{run}: single-trial validation accuracy", title_justify="left")
    table.add_column("subject")
    for heading in ("voxels", "median accuracy (r)", "median ceiling (r)", "accuracy / ceiling"):
        table.add_column(heading, justify="right")
    for row in summary_table(open_run(run)):
        table.add_row(
            row.subject, f"{row.voxels:,}", f"{row.accuracy:.3f}", f"{row.noise_ceiling:.3f}", f"{row.ratio:.0%}"
        )
    Console().print(table)
