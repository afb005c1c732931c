"""Dask's performance report: a static page that remains after the dashboard ends."""

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
    """Write the performance report of the block (task stream, bandwidth, profile) to an HTML file.

    Does nothing where the client's scheduler has no dashboard in this process.
    """
    if not has_page(client):
        yield
        return
    raised: BaseException | None = None
    try:
        # inline: the page opens without a network
        with client.as_current(), performance_report(filename=url, mode="inline"):
            try:
                yield
            except BaseException as error:
                raised = error
                raise
    except OSError:  # the page is an extra: on a full disk it neither fails a run nor hides why the run failed
        if raised is not None:
            raise raised from None
