"""What ``run``, ``ingest`` and ``demo`` share: a cluster, progress on the terminal, and the way to the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nsdflow.cli.progress import Progress
from nsdflow.cluster.connect import connect
from nsdflow.cluster.job_pool import PLACEHOLDERS, job_scripts
from nsdflow.cluster.links import announce_dashboard, announce_pools

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["print_job_scripts", "session"]


@contextmanager
def session(
    cluster: str, *, workers: int | None, dashboard: str, scratch: str | None = None
) -> Iterator[tuple[Client, Progress]]:
    """A client and what listens to its events while the block runs."""
    with (
        connect(cluster, workers=workers, scratch=scratch, dashboard=dashboard) as client,
        Progress() as progress,
    ):
        announce_pools(client, progress)
        announce_dashboard(client, progress)
        yield client, progress


def print_job_scripts(cluster: str, workers: int | None) -> None:
    """Show what would be submitted to a queue."""
    for pool, script in job_scripts(cluster, workers=workers).items():
        print(f"\n--- job script of the {pool} pool ({PLACEHOLDERS})\n\n{script}".rstrip())
