"""A connection to the SLURM that ``start_slurm.sh`` starts, with two small pools."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dask
import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.cluster.demand import PoolTimes
from nsdflow.cluster.feed import Feed
from tests.docs.pages import Block, blocks
from tests.docs.test_blocks import ROOT

#: Waits short enough for a test, long enough for a busy machine.
FAST = PoolTimes(
    poll_s=0.3,
    query_s=1.0,
    vanished_s=20.0,
    idle_s=3.0,
    useful_s=5.0,
    back_off_s=0.5,
    back_off_max_s=2.0,
    useless_jobs=3,
)

#: A training of seconds, one thread so that the machine does not matter.
SMALL = {"prefilter": "gabor", "width": 4, "threads": 1, "bootstrap": 8, "train": {"epochs": 4, "batch_size": 40}}


@pytest.fixture(scope="session", autouse=True)
def slurm():
    """Skip, and say so, where no SLURM answers."""
    own = Path(os.environ.get("NSDFLOW_SLURM", "/tmp/nsdflow-slurm")) / "slurm.conf"
    with pytest.MonkeyPatch.context() as patch:
        if "SLURM_CONF" not in os.environ and own.exists():
            patch.setenv("SLURM_CONF", str(own))
        if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
            pytest.skip("no SLURM answers; start one with: sh tests/slurm/start_slurm.sh")
        yield


@pytest.fixture(autouse=True)
def no_jobs_before():
    """Cancels jobs that a failed test may have left, before the next test."""
    subprocess.run(["scancel", "--user", str(os.getuid())], check=True)
    wait_until(lambda: not queued(), seconds=30)


@pytest.fixture
def sections(tmp_path, monkeypatch):
    """``jobqueue.slurm`` and ``jobqueue.slurm-gpu``, as a site would write them; logs below ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    cpu = {"cores": 1, "memory": "1GiB", "walltime": "00:30:00", "queue": "debug", "maximum-jobs": 2}
    gpu = {"job-extra-directives": ["--gres=gpu:1"], "maximum-jobs": 2}
    with dask.config.set({"jobqueue.slurm": cpu, "jobqueue.slurm-gpu": gpu}):
        yield {"cpu": cpu, "gpu": gpu}


def example() -> list[Block]:
    """The blocks of the page on a first run."""
    return list(blocks(ROOT / "docs" / "cluster" / "first-run.md"))


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    """A home folder with the page's ``jobqueue.yaml``; returns the folder in which the user works."""
    (jobqueue,) = [block.text for block in example() if block.info == "yaml"]
    settings = tmp_path / "home" / ".config" / "dask"
    settings.mkdir(parents=True)
    (settings / "jobqueue.yaml").write_text(jobqueue)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("DASK_CONFIG", raising=False)
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def times() -> PoolTimes:
    return FAST


def queued(name: str = "") -> list[str]:
    """Ids of the jobs in the queue whose name contains ``name``."""
    lines = subprocess.run(["squeue", "-h", "-o", "%i %j"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in lines.splitlines() if name in line.split()[1]]


@pytest.fixture(scope="session")
def reference(small_store, tmp_path_factory) -> Path:
    """GNet8r trained in this process, never interrupted."""
    return train_here("gnet8r", small_store, tmp_path_factory.mktemp("reference"), **SMALL)


def train_here(pipeline: str, store: str, runs: Path, **settings) -> Path:
    """Run a pipeline on one thread of this process; returns its run folder."""
    with connect("threads", memory="8GiB", dashboard=None) as client:
        nsdflow.run(pipeline, store=store, runs=str(runs), client=client, **settings)
    return runs / pipeline


def meet(folder: str, number: int, of: int) -> None:
    """A task that ends when ``of`` such tasks run at the same time.

    It imports torch before, so that all can train at once afterwards.
    """
    importlib.import_module("torch")
    (Path(folder) / f"here-{number}").touch()
    wait_until(lambda: len(list(Path(folder).glob("here-*"))) == of)


def wait_until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.1)


def feed_all(client, tasks, between=lambda: None):
    """Run ``(pool, function, *arguments)`` by key; returns results by key."""
    feed, waiting, results = Feed(client), dict(tasks), {}
    try:
        while len(results) < len(tasks):
            between()
            for key, (pool, function, *arguments) in list(waiting.items()):
                if feed.room(pool) > 0:
                    feed.submit(pool, function, *arguments, key=key)
                    del waiting[key]
            for future in feed.done(Counter({"cpu": 0, "gpu": 0, **Counter(task[0] for task in waiting.values())})):
                results[future.key] = future.result()
    finally:
        feed.close()
    return results
