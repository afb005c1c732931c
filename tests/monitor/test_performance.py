"""The page of Dask's measurements is an extra: where it cannot be written, a run goes on and its own errors show."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from nsdflow.errors import StoreError
from nsdflow.monitor import performance


@contextmanager
def on_a_full_disk(**_: Any) -> Iterator[None]:
    """As Dask's: the page is written when the block ends, in whatever way."""
    try:
        yield
    finally:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "performance.html")


def test_a_page_that_cannot_be_written_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "has_page", lambda client: True)
    monkeypatch.setattr(performance, "performance_report", on_a_full_disk)
    client: Any = SimpleNamespace(as_current=nullcontext)
    with performance.keep_performance(client, "performance.html"):
        pass
    with (
        pytest.raises(StoreError, match="no space left for a checkpoint"),
        performance.keep_performance(client, "performance.html"),
    ):
        raise StoreError("no space left for a checkpoint")
