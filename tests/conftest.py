"""A small synthetic NSD, its store and one Dask worker, made once for all tests that need them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed import Client, Worker
from hypothesis import settings

from nsdflow.cluster.connect import connect
from nsdflow.config.storage import Layout
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.synthetic import SyntheticSpec, write_nsd

#: How to run the tests of each mark that a plain run leaves out.
MARKED = {
    "slow": "make nightly",
    "slurm": "make slurm",
    "gpu": "python -m pytest -m gpu",
    "browser": "make browser",
}
left_out: Counter[str] = Counter()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        left_out.update(mark for mark in MARKED if item.get_closest_marker(mark))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist tells the one that writes the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every process has collected all tests; one that crashed tells nothing."""
    for mark, count in getattr(node, "workeroutput", {}).get("left_out", {}).items():
        left_out[mark] = count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which marked tests were left out, and how to run them; silent when marks were asked for."""
    if left_out and config.getoption("markexpr").startswith("not "):
        terminalreporter.section("left out")
        for mark, count in left_out.items():
            terminalreporter.line(f"{count} marked {mark}; run them with: {MARKED[mark]}")


# how long an example may take says something of the machine, and nothing of the code
settings.register_profile("nsdflow", deadline=None)
settings.load_profile("nsdflow")


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> Iterator[None]:
    """Tasks that may take every core take one: threads of two tests at once would wait, spinning, for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nsdflow.engine.compute.available_cpus", lambda: 1)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests share few cores: one thread each is faster than several that wait for one another, and repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_seed() -> None:
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _tasks_read_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed inside a task must not become tasks of the cluster that the task runs on."""

    def refuse(worker: Worker, *_: object, **__: object) -> Client:
        raise AssertionError("a task computes through the scheduler; use nsdflow.engine.compute.read_here")

    monkeypatch.setattr(Worker, "_get_client", refuse)


@pytest.fixture(scope="module")
def threads_client() -> Iterator[Client]:
    """One worker in this process, and Dask's configuration set for it while the module's tests run."""
    with connect("threads", threads_per_worker=2, memory="8GiB", dashboard=None) as client:
        yield client


@pytest.fixture(scope="session")
def small_nsd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects of 3 and 2 sessions x 72 trials."""
    spec = SyntheticSpec(subjects=2, sessions=3, trials_per_session=72, shared_images=12, image_size=96, evc_voxels=60)
    return write_nsd(tmp_path_factory.mktemp("nsd") / "nsd", spec)


@pytest.fixture(scope="session")
def small_store(small_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Early visual cortex of the small NSD, with images of 67 pixels."""
    target = str(tmp_path_factory.mktemp("store") / "nsd.zarr")
    plan = plan_ingest(str(small_nsd), target, voxels="evc", image_size=67, layout=Layout(chunk_voxels=16))
    with connect("threads", threads_per_worker=2, memory="8GiB", dashboard=None) as client:
        carry_out(plan, client)
    return target
