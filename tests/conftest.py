"""A small synthetic NSD, its store and one Dask worker, made once for all tests that need them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
import torch
from distributed import Client, Worker
from hypothesis import settings
from matplotlib.figure import Figure

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.config.storage import Layout
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.synthetic import write_nsd
from tests.few_files import keep_few_files
from tests.small_runs import GNET8J, GNET8R, SMALL_NSD

#: How to run the tests of each mark that a plain run leaves out.
MARKED = {
    "slow": "make nightly",
    "slurm": "make slurm",
    "gpu": "python -m pytest -m gpu",
    "browser": "make browser",
}
left_out: Counter[str] = Counter()

#: A file system in memory.
MEMORY_FOLDER = Path("/dev/shm")
#: Its free space, and free memory, at which temporary files go there; all tests in two processes leave 6 GB behind.
MEMORY_FREE_BYTES = 12 << 30


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Keep temporary files in memory if there is enough, since deleting a file on a disk can take milliseconds.

    ``TMPDIR`` chooses another folder. Commands and processes of pytest-xdist inherit it.
    """
    if "TMPDIR" not in os.environ and MEMORY_FOLDER.is_dir() and os.access(MEMORY_FOLDER, os.W_OK | os.X_OK):
        free = min(shutil.disk_usage(MEMORY_FOLDER).free, psutil.virtual_memory().available)
        if free >= MEMORY_FREE_BYTES:
            os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY_FOLDER)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, since tests wait for processes, clocks and disks a fifth of their time."""
    return (psutil.cpu_count() or 1) + 1


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        left_out.update(mark for mark in MARKED if item.get_closest_marker(mark))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist reports to the one that writes the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every process has collected all tests; a crashed process reports nothing."""
    for mark, count in getattr(node, "workeroutput", {}).get("left_out", {}).items():
        left_out[mark] = count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which marked tests were left out, and how to run them; silent when marks were asked for."""
    if left_out and config.getoption("markexpr").startswith("not "):
        terminalreporter.section("left out")
        for mark, count in left_out.items():
            terminalreporter.line(f"{count} marked {mark}; run them with: {MARKED[mark]}")


# the time of an example depends on the machine, not on the code
settings.register_profile("nsdflow", deadline=None)
settings.load_profile("nsdflow")


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> Iterator[None]:
    """Everything takes one core: this process, the commands that tests start, and tasks that may take every core.

    Threads of two tests at once would wait for each other, spinning: on two cores that takes twenty times as long. This
    holds for fixtures of a module, too, which are made before those of a test.
    """
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr("nsdflow.engine.compute.available_cpus", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_profiles() -> Iterator[None]:
    """Dask's profiler is off, since it can stop the whole process.

    Its ``sys._current_frames`` may collect garbage while it holds the lock of CPython's list of threads. Hypothesis has
    a callback of the collector in Python, which can give the interpreter to a thread that starts another and waits for
    that lock. No timeout ends this, because no thread has the interpreter any more.
    """
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """A flush checks its descriptor and does not wait for the disk, which saves some 3 ms each.

    Tests of flushing count the calls, or simulate a disk that loses unflushed data. Commands still flush.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in {"fsync", "fdatasync"} & set(dir(os)):
            patch.setattr(os, name, lambda descriptor: os.fstat(descriptor) and None)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A test that chooses a number of threads leaves one to the next."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _blank() -> bytes:
    """A picture of one pixel."""
    buffer = BytesIO()
    Figure((1, 1), dpi=1).savefig(buffer, format="png")
    return buffer.getvalue()


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch, _blank: bytes) -> None:
    """Figures are made, but saved as one pixel, so that tests of a page's text take a third of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, target, **_: target.write(_blank))


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
    """Two subjects of 3 and 2 sessions x 72 trials, with few atlases and maps; FFA has no voxel in early areas."""
    return keep_few_files(write_nsd(tmp_path_factory.mktemp("nsd") / "nsd", SMALL_NSD), "floc-faces")


@pytest.fixture(scope="session")
def small_store(small_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Early visual cortex of the small NSD, with images of 67 pixels."""
    target = str(tmp_path_factory.mktemp("store") / "nsd.zarr")
    plan = plan_ingest(str(small_nsd), target, voxels="evc", image_size=67, layout=Layout(chunk_voxels=16))
    with connect("threads", threads_per_worker=2, memory="8GiB", dashboard=None) as client:
        carry_out(plan, client)
    return target


@pytest.fixture(scope="session")
def small_gnet8j(small_store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished joint run; modules copy it where they run something else beside it."""
    return _trained("gnet8j", GNET8J, small_store, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def small_gnet8r(small_store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run with a trunk for each of three areas."""
    return _trained("gnet8r", GNET8R, small_store, tmp_path_factory.mktemp("trained"))


def _trained(name: str, settings: Mapping[str, Any], store: str, runs: Path) -> Path:
    with connect("threads", threads_per_worker=2, memory="8GiB", dashboard=None) as client:
        nsdflow.run(name, store=store, runs=runs, client=client, listen=None, **settings)
    return runs / name
