"""Execution of plans on Dask: submits the missing tasks in order while the pools have room."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from uuid import uuid4

from distributed import KilledWorker

from nsdflow.cluster.feed import Feed, gpu_workers, worker_memory
from nsdflow.engine import markers
from nsdflow.engine.losses import Losses, explain_loss
from nsdflow.engine.memory import process_peak
from nsdflow.errors import NsdflowError, RunError
from nsdflow.io.flush import recording
from nsdflow.io.reach import NO_SPACE, store_errors
from nsdflow.monitor.events import Event, Listener, Publisher, make_event

if TYPE_CHECKING:
    from distributed import Client, Future

    from nsdflow.engine.driver_lock import Hold
    from nsdflow.engine.plan import JSON, Call, Plan, Task

__all__ = ["execute", "run_task"]


def run_task(folder: str, call: Call, attempt: str = "") -> None:
    """Run one task on a worker, wait until its files are on disk, and write its done-marker as the last step.

    Dask repeats a task if its worker died before the scheduler learned that the task was done. The marker of the same
    ``attempt`` shows that nothing is left to do.

    Parameters
    ----------
    folder : str
        Path or URL of the folder that holds the markers.
    call : Call
        The task as it travels.
    attempt : str
        Identifies one execution of the plan.
    """
    if attempt and (markers.read(folder, call.key) or {}).get("attempt") == attempt:
        return
    start = time.monotonic()
    with recording() as written:
        result = call()
        files = written.flush()
    seconds = round(time.monotonic() - start, 3)
    marker = {
        "fingerprint": call.fingerprint,
        "attempt": attempt,
        "result": result,
        "seconds": seconds,
        "peak_memory": process_peak(),
        "files": markers.relative_files(folder, files),
    }
    markers.write(folder, call.key, marker)


def execute(plan: Plan, client: Client, *, listen: Listener | None = None, hold: Hold | None = None) -> dict[str, JSON]:
    """Run the missing tasks of a plan and return the results of all tasks.

    A task is submitted when the tasks that it waits for are done and its pool has room
    (:class:`~nsdflow.cluster.feed.Feed`).

    Parameters
    ----------
    plan : Plan
        Validated against the memory of the workers before anything runs.
    client : distributed.Client
        Client of the cluster that runs the tasks.
    listen : callable, optional
        Called in this thread with events: ``stage`` once per stage, then ``task-done`` and ``task-failed``.
    hold : Hold, optional
        Lock on the folder of the plan, checked while tasks run.

    Returns
    -------
    dict
        Results by task key.

    Raises
    ------
    PlanError
        The plan does not fit; nothing ran.
    NsdflowError
        The error of the first task that failed; finished tasks stay finished.
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
            tell(
                make_event(
                    "stage", run=plan.name, stage=stage, total=len(tasks), done=len(tasks) - left[stage], bytes=size
                )
            )
        done = _Execution(plan, client, missing, tell, hold).run()
    return {task.key: done[task.key]["result"] for task in plan.tasks}


class _Execution:
    """The driver's loop over one plan: tasks that are ready, tasks in flight, and room in each pool."""

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
        self.before = markers.read_markers(plan.folder)
        self.done: dict[str, dict[str, JSON]] = {}
        self.feed = Feed(client)
        self.losses = Losses(client)
        # Dask answers a key it knows with the outcome it knows, and a task that failed before must run again
        self.attempt = uuid4().hex[:8]

    def run(self) -> dict[str, dict[str, JSON]]:
        """Run all missing tasks and return the markers of all tasks."""
        for key, waits in self.waits_for.items():
            if not waits:
                self._push(key)
        try:
            self._submit()
            while self.flying or any(self.ready.values()):
                for future in self.feed.done({pool: len(ready) for pool, ready in self.ready.items()}):
                    self._finish(self.flying.pop(str(future.key)), future)
                self.losses.check()
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
                    pool, run_task, self.plan.folder, task.call, self.attempt, key=submitted, priority=-number
                )

    def _finish(self, task: Task, future: Future[None]) -> None:
        # asked only if there are any: the answer takes a round trip through the client's network thread
        error = None if future.status == "finished" else future.exception()
        if error is not None:
            ours = _as_ours(self.client, task, error, self.plan.folder)
            self.tell(make_event("task-failed", run=self.plan.name, key=task.key, stage=task.stage, error=str(ours)))
            raise ours
        # read the result from the marker: its worker may be gone
        marker = self.done[task.key] = markers.wait_for(self.plan.folder, task.key, self.before.get(task.key))
        size = task.reads + task.writes
        self.tell(
            make_event(
                "task-done", run=self.plan.name, key=task.key, stage=task.stage, seconds=marker["seconds"], bytes=size
            )
        )
        for key in self.waited_by.get(task.key, ()):
            self.waits_for[key].discard(task.key)
            if not self.waits_for[key]:
                self._push(key)


def _as_ours(client: Client, task: Task, error: BaseException, folder: str) -> NsdflowError:
    if isinstance(error, NsdflowError):
        return error
    if isinstance(error, KilledWorker):
        return RunError(explain_loss(client, task, error))
    advice = "; run the same command to continue" if isinstance(error, (OSError, *store_errors())) else ""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        where = error.filename or f"{folder} or a temporary folder"
        advice = f"; free some space in {where} and run the same command again, what is done stays done"
    wrapped = RunError(f"{task.key}: {type(error).__name__}: {' '.join(str(error).split())}{advice}")
    wrapped.__cause__ = error
    return wrapped
