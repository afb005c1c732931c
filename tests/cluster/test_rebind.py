"""A GPU task whose worker died runs on the worker that comes up, not behind the task of another."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from nsdflow.cluster.connect import connect


def hold(folder: str, name: str) -> str:
    """Say where this runs, then wait to be let go."""
    place = Path(folder)
    (place / f"{name}.{os.getpid()}").touch()
    while not (place / f"{name}.go").exists():
        time.sleep(0.05)
    return name


def starts(folder: Path, name: str, count: int) -> list[int]:
    """Processes in which a task began, as soon as there are this many."""
    ends = time.monotonic() + 60
    while len(found := [int(path.suffix[1:]) for path in folder.glob(f"{name}.[0-9]*")]) < count:
        assert time.monotonic() < ends, f"{name} did not start again"
        time.sleep(0.05)
    return found


def test_a_task_of_a_dead_worker_does_not_wait_for_another_task(tmp_path: Path) -> None:
    with connect("local", workers=2, memory="1GiB", dashboard=None) as client:
        first, second = (
            client.submit(hold, str(tmp_path), name, key=name, resources={"GPU": 1}) for name in ("first", "second")
        )
        (pid,), (other,) = starts(tmp_path, "first", 1), starts(tmp_path, "second", 1)
        assert pid != other
        os.kill(pid, signal.SIGKILL)
        again = set(starts(tmp_path, "first", 2)) - {pid}
        assert other not in again
        assert not second.done()  # it never blocked another task
        for name in ("first", "second"):
            (tmp_path / f"{name}.go").touch()
        assert client.gather([first, second]) == ["first", "second"]
        assert len(starts(tmp_path, "second", 1)) == 1
