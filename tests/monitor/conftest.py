"""One in-process cluster for all tests of a module that only need some worker."""

from __future__ import annotations

import pytest

from nsdflow.cluster.connect import connect


@pytest.fixture(scope="module")
def client():
    with connect("threads", threads_per_worker=2, dashboard=None) as client:
        yield client
