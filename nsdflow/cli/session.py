"""Functions of ``run``, ``ingest`` and ``demo``: a cluster, progress on the terminal, a summary of finished runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nsdflow.cluster.batch.job_pool import PLACEHOLDERS, job_scripts, read_pools
from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS
from nsdflow.cluster.connect import announce, capacity, connect
from nsdflow.cluster.demand import Demand
from nsdflow.cluster.settings import keep_freed_memory
from nsdflow.monitor.terminal import TerminalProgress

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.engine.plan import Plan

__all__ = ["check_plans", "print_summary", "session", "write_reports"]


@contextmanager
def session(
    cluster: str, *, workers: int | None, dashboard: str, scratch: str | None = None
) -> Iterator[tuple[Callable[[], Client], TerminalProgress]]:
    """Give a function that starts the cluster at its first call, and the listener that shows events.

    The cluster closes at the end of the block.
    """
    if cluster == "threads":
        keep_freed_memory()
    with ExitStack() as stack, TerminalProgress() as progress:
        started: list[Client] = []

        def start() -> Client:
            if not started:
                connection = connect(cluster, workers=workers, scratch=scratch, dashboard=dashboard)
                started.append(stack.enter_context(connection))
                announce(started[0], progress)
            return started[0]

        yield start, progress


def check_plans(plans: Iterable[Plan], cluster: str, workers: int | None) -> None:
    """Check plans against the workers that ``--cluster`` would start, then print the job scripts of a batch system.

    Raises
    ------
    SelectionError
        There is no such cluster.
    ConfigError
        Its sections of ``jobqueue.yaml`` have mistakes.
    PlanError
        A task does not fit into a worker, or more tasks have to run at once than there can be workers.
    """
    limits = capacity(cluster, workers=workers)
    for plan in plans:
        plan.validate(limits.memory, limits.gpu_workers)
    if cluster in BATCH_SYSTEMS:
        print()
        for pool in read_pools(cluster, Demand(workers=workers)):
            print(pool.describe())
    for name, script in job_scripts(cluster, workers=workers).items():
        print(f"\n--- job script of the {name} pool ({PLACEHOLDERS})\n\n{script}".rstrip())


def print_summary(runs: Sequence[str], title: str = "validation accuracy of single trials") -> None:
    """Print the median validation accuracy and noise ceiling by run and subject."""
    from rich.console import Console
    from rich.table import Table

    from nsdflow.analysis.summary import summary_table
    from nsdflow.runs import open_run

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
    """Write the report of each run, and print and return its path. If a report fails, a line says why.

    Parameters
    ----------
    runs : sequence of str
        Run folders.
    quiet : bool
        Do not print the paths.
    """
    from nsdflow.io.text import for_terminal
    from nsdflow.report import write_report

    written = []
    for run in runs:
        try:
            written.append(str(write_report(run)))
        except Exception as error:  # noqa: BLE001 - whatever fails in drawing, the results of the run are there
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            line = f"no report of {run}: {reason}; its results are complete, try: nsdflow report {run}"
            print(for_terminal(line), file=sys.stderr)
            continue
        if not quiet:
            print(f"report: {written[-1]}")
    return written
