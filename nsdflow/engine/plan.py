"""Plans and their execution: everything nsdflow does on Dask is a :class:`Plan` first.

A plan is data: tasks with a module-level function, JSON arguments, what they wait for and what they cost. It can be
printed (:meth:`Plan.describe`), refused (:meth:`Plan.validate`) and executed (:func:`execute`). A task is done when
its done-marker, written last by the worker that ran it, names the same function and arguments; executing a plan again
therefore submits exactly what is missing, whoever was killed in between.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from dask.utils import format_bytes

from nsdflow.cluster.feed import Feed, gpu_workers, worker_memory
from nsdflow.engine import markers
from nsdflow.errors import NsdflowError, PlanError, RunError
from nsdflow.io.files import store_errors
from nsdflow.monitor.events import Event, Listener, Publisher, make_event

if TYPE_CHECKING:
    from distributed import Client, Future

    from nsdflow.engine.driver_lock import Hold

__all__ = ["BASE_MEMORY", "JSON", "Plan", "Task", "execute", "run_task"]

#: What travels through the scheduler: names, numbers and paths.
JSON = Any
#: Bytes of interpreter, libraries and buffers of a task before any data.
BASE_MEMORY = 700 << 20


@dataclass(frozen=True)
class Task:
    """One unit of work: a function, its arguments, and what it needs and makes."""

    key: str
    """Unique in the plan and safe as a file name, for example ``betas-subj01-session03``."""
    function: Callable[..., JSON]
    """A module-level function; what it returns (small, JSON) is kept in the done-marker."""
    arguments: Mapping[str, JSON]
    """Keyword arguments: paths, names and numbers. Arrays, modules and open files stay out."""
    stage: str
    """Tasks of a stage share a progress bar."""
    after: tuple[str, ...] = ()
    """Keys of the tasks that must be done first."""
    pool: Literal["cpu", "gpu"] = "cpu"
    together: int = 1
    """How many tasks like it have to run at once, each on a worker of its own: they wait for each other."""
    memory: int = 0
    """Planned peak memory in bytes."""
    reads: int = 0
    """Bytes read."""
    writes: int = 0
    """Bytes written."""
    files: int = 0
    """Files left behind."""

    @cached_property
    def fingerprint(self) -> str:
        """Identity of function and arguments; a done-marker with another one does not count."""
        name = f"{self.function.__module__}.{self.function.__qualname__}"
        text = json.dumps([name, dict(self.arguments)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """Tasks in an order in which each stands after what it waits for."""

    title: str
    folder: str
    """Where the done-markers live (a path or URL)."""
    tasks: tuple[Task, ...]
    file_budget: int | None = None
    """No more files than this may be made."""
    notes: tuple[str, ...] = field(default=())
    """Lines to print below the table."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for task in self.tasks:
            if task.key in seen:
                raise PlanError(f"{self.title}: two tasks are called {task.key}")
            if unknown := set(task.after) - seen:
                raise PlanError(f"{self.title}: {task.key} waits for {sorted(unknown)}, not planned before it")
            seen.add(task.key)

    def stages(self) -> dict[str, list[Task]]:
        """Tasks by stage, in the order of first appearance."""
        stages: dict[str, list[Task]] = {}
        for task in self.tasks:
            stages.setdefault(task.stage, []).append(task)
        return stages

    def describe(self) -> str:
        """A table of what would be done: tasks, bytes in and out, files and peak memory by stage."""
        header = ("stage", "tasks", "pool", "reads", "writes", "files", "peak memory a task")
        rows = [header]
        for stage, tasks in self.stages().items():
            rows.append(
                (
                    stage,
                    str(len(tasks)),
                    "+".join(sorted({task.pool for task in tasks})),
                    format_bytes(sum(task.reads for task in tasks)),
                    format_bytes(sum(task.writes for task in tasks)),
                    str(sum(task.files for task in tasks)),
                    format_bytes(max(task.memory for task in tasks)),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        budget = f" (budget {self.file_budget})" if self.file_budget is not None else ""
        total = f"total: {len(self.tasks)} tasks, {sum(task.files for task in self.tasks)} files{budget}"
        return "\n".join([self.title, *(line.rstrip() for line in lines), total, *self.notes])

    def validate(self, memory_limit: int | None = None, workers: int | None = None) -> None:
        """Refuse what cannot fit.

        Raises
        ------
        PlanError
            If a task's planned peak exceeds ``memory_limit`` (bytes a worker), if more tasks have to run at once than
            there are ``workers`` that can take one of their pool, or if the files exceed the budget.
        """
        for task in self.tasks:
            if workers is not None and task.together > max(1, workers):
                raise PlanError(
                    f"{self.title}: {task.together} {task.pool.upper()} workers train together, and there can be "
                    f"{workers}; use more workers, or set processes={max(1, workers)}"
                )
            if memory_limit and task.memory > memory_limit:
                raise PlanError(
                    f"{self.title}: {task.key} needs {format_bytes(task.memory)} but a worker has "
                    f"{format_bytes(memory_limit)}; use fewer or larger workers, or a smaller voxel set"
                )
        files = sum(task.files for task in self.tasks)
        if self.file_budget is not None and files > self.file_budget:
            raise PlanError(
                f"{self.title}: {files} files planned, {self.file_budget} allowed; "
                "raise the file budget or the shard size"
            )

    def missing(self) -> tuple[Task, ...]:
        """Tasks without a valid done-marker, and all that wait for one of them."""
        done = markers.read_all(self.folder)
        missing: dict[str, Task] = {}
        for task in self.tasks:
            valid = done.get(task.key, {}).get("fingerprint") == task.fingerprint
            if not valid or any(key in missing for key in task.after):
                missing[task.key] = task
        return tuple(missing.values())


def run_task(
    folder: str,
    key: str,
    fingerprint: str,
    function: Callable[..., JSON],
    arguments: Mapping[str, JSON],
    attempt: str = "",
) -> None:
    """Run one task where it was sent and, as the very last thing, write its done-marker.

    Dask runs a task again whose worker died before the scheduler knew that it was done; the marker of the same
    ``attempt`` says that nothing is left to do.
    """
    if attempt and (markers.read(folder, key) or {}).get("attempt") == attempt:
        return
    start = time.monotonic()
    result = function(**arguments)
    seconds = round(time.monotonic() - start, 3)
    marker = {"fingerprint": fingerprint, "attempt": attempt, "result": result, "seconds": seconds}
    markers.write(folder, key, marker)


def execute(plan: Plan, client: Client, *, listen: Listener | None = None, hold: Hold | None = None) -> dict[str, JSON]:
    """Run what is missing of a plan and return every task's result.

    A task is submitted when what it waits for is done and its pool has room (:class:`~nsdflow.cluster.feed.Feed`).

    Parameters
    ----------
    plan
        What to do. It is validated against the memory of the workers first.
    client
        Where to do it.
    listen
        Called in this thread with events: ``stage`` once a stage, then ``task-done`` and ``task-failed``.
    hold
        The right to do it, looked at again and again.

    Raises
    ------
    PlanError
        If the plan cannot fit. Nothing ran then.
    NsdflowError
        What the first failing task raised; tasks that were done stay done.
    """
    plan.validate(worker_memory(client), gpu_workers(client))
    markers.write_plan(plan.folder, {stage: [task.key for task in tasks] for stage, tasks in plan.stages().items()})
    missing = plan.missing()

    with Publisher(client) as publish:

        def tell(event: Event) -> None:
            publish(event)
            if listen is not None:
                listen(event)

        left = Counter(task.stage for task in missing)
        for stage, tasks in plan.stages().items():
            size = sum(task.reads + task.writes for task in tasks)
            tell(make_event("stage", stage=stage, total=len(tasks), done=len(tasks) - left[stage], bytes=size))
        done = _Execution(plan, client, missing, tell, hold).run()
    return {task.key: done[task.key]["result"] for task in plan.tasks}


class _Execution:
    """The driver's loop over one plan: what is ready, what is in flight, what each pool can take."""

    def __init__(
        self, plan: Plan, client: Client, missing: Iterable[Task], tell: Callable[[Event], None], hold: Hold | None
    ) -> None:
        self.plan, self.client, self.tell, self.hold = plan, client, tell, hold
        self.order = {task.key: number for number, task in enumerate(missing)}
        self.tasks = {task.key: task for task in missing}
        self.waits_for = {task.key: set(task.after) & self.tasks.keys() for task in missing}
        self.waited_by: dict[str, list[str]] = {}
        for key, waits in self.waits_for.items():
            for before in waits:
                self.waited_by.setdefault(before, []).append(key)
        self.ready: dict[str, list[tuple[int, str]]] = {"cpu": [], "gpu": []}
        self.flying: dict[str, Task] = {}
        self.before = markers.read_all(plan.folder)
        self.done: dict[str, dict[str, JSON]] = {}
        self.feed = Feed(client)
        # Dask answers a key it knows with the outcome it knows, and a task that failed before must run again
        self.attempt = uuid4().hex[:8]

    def run(self) -> dict[str, dict[str, JSON]]:
        """Run everything; returns the markers of what was done before and of what ran."""
        for key, waits in self.waits_for.items():
            if not waits:
                self._push(key)
        try:
            self._submit()
            while self.flying or any(self.ready.values()):
                for future in self.feed.done({pool: len(ready) for pool, ready in self.ready.items()}):
                    self._finish(self.flying.pop(str(future.key)), future)
                if self.hold is not None:
                    self.hold.check()
                self._submit()
        finally:
            self.feed.close()
        return self.before | self.done

    def _push(self, key: str) -> None:
        heapq.heappush(self.ready[self.tasks[key].pool], (self.order[key], key))

    def _submit(self) -> None:
        for pool, ready in self.ready.items():
            while ready and self.feed.room(pool) > 0:
                number, key = heapq.heappop(ready)
                task = self.tasks[key]
                submitted = f"{task.function.__name__}-{key}-{self.attempt}"
                self.flying[submitted] = task
                self.feed.submit(
                    pool, run_task, self.plan.folder, key, task.fingerprint, task.function, dict(task.arguments),
                    self.attempt, key=submitted, priority=-number,
                )  # fmt: skip

    def _finish(self, task: Task, future: Future[None]) -> None:
        # asked only where there is one: the answer takes a round trip through the client's network thread
        error = None if future.status == "finished" else future.exception()
        if error is not None:
            ours = _as_ours(task, error)
            self.tell(make_event("task-failed", key=task.key, stage=task.stage, error=str(ours)))
            raise ours
        # the result is read from the marker: a worker that has gone since could not be asked for it
        marker = self.done[task.key] = markers.wait_for(self.plan.folder, task.key, self.before.get(task.key))
        size = task.reads + task.writes
        self.tell(make_event("task-done", key=task.key, stage=task.stage, seconds=marker["seconds"], bytes=size))
        for key in self.waited_by.get(task.key, ()):
            self.waits_for[key].discard(task.key)
            if not self.waits_for[key]:
                self._push(key)


def _as_ours(task: Task, error: BaseException) -> NsdflowError:
    if isinstance(error, NsdflowError):
        return error
    advice = "; run the same command to continue" if isinstance(error, (OSError, *store_errors())) else ""
    wrapped = RunError(f"{task.key}: {type(error).__name__}: {' '.join(str(error).split())}{advice}")
    wrapped.__cause__ = error
    return wrapped
