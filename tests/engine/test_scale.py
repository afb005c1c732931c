"""The planner handles ten thousand tasks; benchmarks/scale.py measures their cost for the scheduler."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from nsdflow.engine.plan import Plan, Task, task

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scale.py"


@dataclass(frozen=True)
class Job:
    number: int
    folder: str


@task("tests.stub", version=1)
def stub(job: Job) -> int:
    return job.number


@pytest.fixture
def _only_own_garbage():
    """Excludes the objects of other tests from garbage collection."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_only_own_garbage")
def test_ten_thousand_tasks_are_planned_in_a_second(tmp_path):
    start = time.process_time()
    keys = [f"betas-{number}" for number in range(9_000)]
    folder = "/scratch/nsd.zarr.building"
    tasks = [Task(key, stub, Job(number, folder), "betas") for number, key in enumerate(keys)]
    tasks += [
        Task(f"join-{number}", stub, Job(number, folder), "join", after=tuple(keys[number * 9 :][:9]))
        for number in range(1_000)
    ]
    plan = Plan("ten thousand", str(tmp_path), tuple(tasks))
    plan.validate(1 << 30)
    text = plan.describe()
    missing = plan.missing()
    assert time.process_time() - start < 1.0
    assert "total: 10000 tasks" in text
    assert len(missing) == 10_000


@pytest.mark.slow
def test_the_benchmark_runs():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--tasks", "300"], capture_output=True, text=True, check=True, timeout=240
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["tasks"] == 300
    assert figures["build_seconds"] + figures["look_seconds"] < 1.0
    assert figures["overhead_ms_a_task"] > figures["dask_ms_a_task"] > 0
