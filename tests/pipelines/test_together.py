"""One training shared by the workers of a cluster: the same result, also if one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.errors import PlanError, RunError
from nsdflow.fit.gnet.parallel import RankLost
from nsdflow.monitor.events import Event, read_log
from nsdflow.pipelines.gnet import together
from nsdflow.pipelines.gnet.together import Seat, train_together

SMALL: dict[str, Any] = {
    "prefilter": "gabor",
    "width": 4,
    "threads": 1,
    "bootstrap": 0,
    "subjects": [2],
    "train": {"epochs": 3, "batch_size": 40},
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connect("local", workers=2, memory="4GiB", dashboard=None) as client:
        yield client


@pytest.fixture(scope="module")
def alone(small_store: str, client: Client, tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    return nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path_factory.mktemp("one")), client=client, **SMALL)


def assert_same_result(found: xr.DataTree, expected: xr.DataTree) -> None:
    """Within float32's rounding, which three epochs amplify; test_parallel.py has it in float64."""
    for name in ("train_loss", "holdout_loss"):
        np.testing.assert_allclose(found["history"][name], expected["history"][name], rtol=1e-4)
    ours, theirs = (tree["subj02"].to_dataset() for tree in (found, expected))
    np.testing.assert_array_equal(ours["flat_index"], theirs["flat_index"])
    np.testing.assert_allclose(ours["accuracy"], theirs["accuracy"], atol=0.02)


@contextmanager
def listening(client: Client) -> Iterator[set[tuple[int, str]]]:
    """Process and address of every socket on which the workers listen meanwhile, from the operating system."""
    workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    seen: set[tuple[int, str]] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for worker in workers:
                sockets = [one.laddr for one in worker.net_connections("inet") if one.status == psutil.CONN_LISTEN]
                seen.update((address.port, address.ip) for address in sockets)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_two_workers_give_what_one_gives(alone: xr.DataTree, small_store: str, client: Client, tmp_path: Path) -> None:
    with listening(client) as before:
        time.sleep(0.3)
    with listening(client) as sockets:
        found = nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), client=client, processes=2, **SMALL)
    assert_same_result(found, alone)
    assert len(sockets - before) >= 2, "each process of the training opens one"
    assert {address for _, address in sockets} <= {"127.0.0.1", "::1"}
    events = read_log(tmp_path / "gnet8j" / "log.jsonl")
    assert [event["epoch"] for event in events if event["kind"] == "epoch"] == [1, 2, 3]
    done = {event["key"]: event for event in events if event["kind"] == "task-done"}
    assert set(done) == {"train-joint-0", "train-joint-1", "publish"}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_makes_all_begin_again_together(
    alone: xr.DataTree, small_store: str, client: Client, tmp_path: Path, rank: int
) -> None:
    killed: list[int] = []

    def listen(event: Event) -> None:
        if event["kind"] == "epoch" and event["epoch"] == 1 and not killed:
            lease = next((tmp_path / "gnet8j" / "checkpoint").glob(f"joint-{rank}.*.lease"))
            killed.append(json.loads(lease.read_text())["pid"])
            os.kill(killed[0], signal.SIGKILL)

    found = nsdflow.run(
        "gnet8j", store=small_store, runs=str(tmp_path), client=client, listen=listen, processes=2, **SMALL
    )
    assert killed
    assert_same_result(found, alone)
    events = read_log(tmp_path / "gnet8j" / "log.jsonl")
    epochs = [event["epoch"] for event in events if event["kind"] == "epoch"]
    assert epochs in ([1, 2, 3], [1, 2, 2, 3]), "an epoch whose checkpoint was written was trained again"
    survivor = f"joint-{1 - rank}"
    assert any(event["kind"] == "note" and event["text"].startswith(survivor) for event in events)


def test_more_processes_than_workers_are_refused(small_store: str, client: Client, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"3 GPU workers train together, and there can be 2; .* processes=2"):
        nsdflow.run("gnet8j", store=small_store, runs=str(tmp_path), client=client, processes=3, **SMALL)


# ---- the meeting alone ----------------------------------------------------------------------------------------------


class Left(Exception):
    pass


def leave() -> Any:
    raise Left


def test_a_call_is_answered_once(tmp_path: Path) -> None:
    """The rendezvous file of a dead process cannot be used again; a new one can."""
    first, second = (Seat(str(tmp_path), "joint", rank, 2) for rank in (0, 1))
    answered: set[str] = set()
    assert together._convene(first, answered, "") is None
    assert together._answer(second, set(), "one") is None
    address = together._convene(first, answered, "")
    assert address is not None
    assert together._answer(second, set(), "one") == address
    assert together._convene(first, answered, "") is None
    assert together._answer(second, set(), "two") is None
    assert together._convene(first, answered, "") is not None
    assert together._answer(second, set(), "two") is not None


@pytest.mark.parametrize("rank", [0, 1])
def test_who_waits_can_leave_and_takes_its_call_back(tmp_path: Path, rank: int) -> None:
    asked, called = iter([False, False, True]), []
    seat = Seat(str(tmp_path), "joint", rank, 2)

    def told_to_leave() -> bool:
        called.append(Path(seat.call(rank)).exists())
        return next(asked)

    with pytest.raises(Left):
        train_together(seat, pytest.fail, backend="gloo", told_to_leave=told_to_leave, leave=leave)
    assert called == [False, rank == 1, rank == 1]
    assert not Path(seat.call(rank)).exists()


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MEETING_TIMEOUT_S", 0.3)
    seat = Seat(str(tmp_path), "joint", 1, 3)
    with pytest.raises(RunError, match="the other 2 processes did not come"):
        train_together(seat, pytest.fail, backend="gloo", told_to_leave=lambda: False, leave=leave)


def test_a_training_that_always_loses_a_process_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_meet", lambda *_: "tcp://127.0.0.1:1")

    def lost(*_: Any, **__: Any) -> Any:
        raise RankLost("gone")

    monkeypatch.setattr(together, "join_ranks", lost)
    with pytest.raises(RunError, match=f"met {together.MOST_MEETINGS} times"):
        train_together(
            Seat(str(tmp_path), "joint", 0, 2), pytest.fail, backend="gloo", told_to_leave=lambda: False, leave=leave
        )
