"""What 10,000 tasks cost beyond their own work: the plan, the scheduler's memory, the overhead per task.

``python benchmarks/scale.py [--tasks N] [--workers N]``. The plan has three stages whose tasks return at once: nine
tenths of the tasks; a tenth, each after ten of them; and the rest, each after nine of those. The benchmark builds the
plan, examines it, executes it on worker processes of this machine, and executes it again when all is done. The overhead
per task is the wall time divided by the number of tasks. It includes Dask's part, a marker file that the worker writes
and the driver reads, and an event. Dask's part is also measured alone: the same number of empty calls, submitted in one
``client.map``, and submitted as the engine does, two ahead of each worker. Driver and scheduler are one process, as in
a run. Memory is the peak of that process beyond its size with an idle cluster. ``cpu`` is its processor time, which
depends little on other work of the machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from nsdflow.cluster.connect import connect
from nsdflow.cluster.feed import Feed
from nsdflow.engine.execute import execute
from nsdflow.engine.plan import Plan, Task, task

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Job:
    """A record as large as that of a real task."""

    number: int
    folder: str
    settings: dict[str, Any]


@task("benchmarks.nothing", version=1)
def nothing(job: Job) -> int:
    """A task that does nothing."""
    return job.number


def build(tasks: int, folder: str) -> Plan:
    """A plan of three stages, each of which depends on the one before."""
    settings = {"betas": "betas_fithrf_GLMdenoise_RR", "space": "func1pt8mm", "voxels": "nsdgeneral", "chunk": 1024}
    first = tasks * 9 // 10
    second = (tasks - first) * 9 // 10
    sizes = {"read": first, "join": second, "publish": tasks - first - second}
    made: list[Task] = []
    before: list[str] = []
    for stage, size in sizes.items():
        share = -(-len(before) // size)
        new = [
            Task(
                key=f"{stage}-{number:05d}",
                function=nothing,
                job=Job(number, folder, settings),
                stage=stage,
                after=tuple(before[number * share : (number + 1) * share]),
                memory=1 << 20,
                reads=1 << 20,
            )
            for number in range(size)
        ]
        made += new
        before = [task.key for task in new]
    return Plan("scale", folder, tuple(made))


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The largest resident size of this process while the block runs, as the only element of a list."""
    process, peak, stop = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def timed(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def fed(client: Client, tasks: int) -> None:
    """The empty calls through the feed, without plan, markers and events."""
    feed, waiting, done = Feed(client), list(range(tasks)), 0
    while done < tasks:
        while waiting and feed.room("cpu") > 0:
            feed.submit("cpu", nothing, waiting.pop(), "", {}, key=f"fed-{len(waiting)}")
        done += len(feed.done({"cpu": len(waiting)}))
    feed.close()


def look(plan: Plan) -> None:
    """Examine a plan, as the engine does before it submits the first task."""
    plan.validate(1 << 33)
    plan.describe()
    plan.missing()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--full", action="store_true", help="as it is: 10,000 tasks are the real size")
    options = parser.parse_args()
    figures: dict[str, Any] = {"benchmark": "scale", "tasks": options.tasks, "workers": options.workers}

    def keep(name: str, value: float) -> None:
        figures[name] = value
        print(f"{name:28} {value:.3f}", flush=True)

    def keep_each(name: str, call: Callable[[], object]) -> None:
        """Wall time and processor time of this process per task."""
        processor = time.process_time()
        seconds, _ = timed(call)
        keep(f"{name}_ms_a_task", 1000 * seconds / options.tasks)
        keep(f"{name}_cpu_ms_a_task", 1000 * (time.process_time() - processor) / options.tasks)

    with tempfile.TemporaryDirectory() as folder:
        seconds, plan = timed(lambda: build(options.tasks, folder))
        keep("build_seconds", seconds)
        keep("look_seconds", timed(lambda: look(plan))[0])
        with connect("local", workers=options.workers, memory="1GiB", dashboard=None) as client:
            execute(build(100, f"{folder}/warm"), client)
            idle = psutil.Process().memory_info().rss
            with peak_memory() as peak:
                keep_each("overhead", lambda: execute(plan, client))
            keep("scheduler_mib", (peak[0] - idle) / 2**20)
            keep("scheduler_bytes_a_task", (peak[0] - idle) / options.tasks)
            keep("resume_seconds", timed(lambda: execute(plan, client))[0])
            keep_each("feed", lambda: fed(client, options.tasks))
            jobs = [Job(number, folder, {}) for number in range(options.tasks)]
            keep_each("dask", lambda: client.gather(client.map(nothing, jobs, pure=False)))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
