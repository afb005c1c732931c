"""What ``run``, ``ingest`` and ``demo`` share: a cluster, progress on the terminal, and links to the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nsdflow.cli.progress import TerminalProgress
from nsdflow.cluster.connect import announce, connect
from nsdflow.cluster.job_pool import PLACEHOLDERS, job_scripts

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["print_job_scripts", "session"]


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


def print_job_scripts(cluster: str, workers: int | None) -> None:
    """Print what would be submitted to a batch system."""
    for pool, script in job_scripts(cluster, workers=workers).items():
        print(f"\n--- job script of the {pool} pool ({PLACEHOLDERS})\n\n{script}".rstrip())
