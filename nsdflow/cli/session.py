"""What ``run``, ``ingest`` and ``demo`` share: a cluster, progress on the terminal, and links to the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nsdflow.cli.progress import TerminalProgress
from nsdflow.cluster.connect import announce, capacity, connect
from nsdflow.cluster.demand import Demand
from nsdflow.cluster.job_pool import PLACEHOLDERS, job_scripts, read_pools
from nsdflow.cluster.jobqueue import BATCH_SYSTEMS

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.engine.plan import Plan

__all__ = ["check_plans", "session"]


@contextmanager
def session(
    cluster: str, *, workers: int | None, dashboard: str, scratch: str | None = None
) -> Iterator[tuple[Client, TerminalProgress]]:
    """Give a client, and the listener that shows its events, while the block runs."""
    with (
        connect(cluster, workers=workers, scratch=scratch, dashboard=dashboard) as client,
        TerminalProgress() as progress,
    ):
        announce(client, progress)
        yield client, progress


def check_plans(plans: Iterable[Plan], cluster: str, workers: int | None) -> None:
    """Check plans against the workers that ``--cluster`` would start, then print what a batch system would get.

    Raises
    ------
    SelectionError
        If there is no such cluster.
    ConfigError
        If its sections of ``jobqueue.yaml`` have mistakes.
    PlanError
        If a task does not fit into a worker, or more tasks have to run at once than there can be workers.
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
