"""One in-process cluster for all tests that only need some worker."""

from __future__ import annotations

import pytest

from nsdflow.cluster.connect import connect


@pytest.fixture(scope="package")
def client():
    with connect("threads", threads_per_worker=2, dashboard=None) as client:
        yield client
