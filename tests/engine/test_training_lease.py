"""Of several copies of one training the newest continues."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from nsdflow.engine import training_lease as module
from nsdflow.engine.training_lease import Lease
from nsdflow.errors import RunError


@pytest.fixture(autouse=True)
def look_always(monkeypatch):
    monkeypatch.setattr(module, "LEASE_CHECK_INTERVAL_S", 0.0)


@pytest.fixture(params=["folder", "object store"])
def folder(request, tmp_path):
    return str(tmp_path / "checkpoint") if request.param == "folder" else f"memory://{uuid.uuid4()}/checkpoint"


def test_a_newer_copy_supersedes_an_older_one_and_says_where_it_is(folder, monkeypatch):
    first = Lease.claim(folder, "V1")
    assert not first.superseded()
    first.check()
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    second = Lease.claim(folder, "V1")
    assert second.attempt == first.attempt + 1
    assert first.superseded()
    assert not second.superseded()
    with pytest.raises(RunError, match=r"V1: a newer copy .* job 4711"):
        first.check()


def test_trainings_of_other_parts_are_not_in_each_others_way(folder):
    leases = [Lease.claim(folder, name) for name in ("V1", "V10", "V1.x")]
    assert [lease.attempt for lease in leases] == [1, 1, 1]
    assert not any(lease.superseded() for lease in leases)


def test_exactly_one_of_many_that_claim_at_once_goes_on(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        leases = list(pool.map(lambda _: Lease.claim(str(tmp_path), "V1"), range(64)))
    going_on = [lease for lease in leases if not lease.superseded()]
    assert len(going_on) == 1
    assert going_on[0].file == max(lease.file for lease in leases)


def test_releasing_leaves_no_file_but_newer_claims(folder):
    first, second = Lease.claim(folder, "V1"), Lease.claim(folder, "V1")
    first.release()
    assert first.superseded()
    second.release()
    assert Lease.claim(folder, "V1").attempt == 1


def test_the_folder_is_looked_at_every_few_seconds_only(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEASE_CHECK_INTERVAL_S", 3600.0)
    first = Lease.claim(str(tmp_path), "V1")
    assert not first.superseded()
    Lease.claim(str(tmp_path), "V1")
    assert not first.superseded()
