"""What stays of the dashboard when the cluster is gone: Dask's performance report, one static page."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributed import performance_report

from nsdflow.monitor.state import has_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

__all__ = ["keep_performance"]


@contextmanager
def keep_performance(client: Client, url: str) -> Iterator[None]:
    """Write what the block did (task stream, bandwidth, profile) to an HTML file; nothing without a dashboard."""
    if not has_page(client):
        yield
        return
    # inline: the page opens where there is no network
    with client.as_current(), performance_report(filename=url, mode="inline"):
        yield
