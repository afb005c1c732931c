"""Moves tasks that are bound to a busy GPU to a free one.

Dask binds a task that needs a resource to a worker at once and permanently: when the worker of one training dies while
another training runs, the first is bound to the worker of the second and waits for its end, although a new worker
starts a moment later. Two trainings that have to run at the same time would wait forever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from distributed import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import TaskState, WorkerState

__all__ = ["Rebinding"]

RESOURCE: Final = "GPU"
#: Time between two checks; a task that waits behind another in both of them is moved.
REBIND_INTERVAL_S: Final = 2.0


class Rebinding(SchedulerPlugin):
    """Scheduler plugin that finds tasks that wait for the GPU of one worker while that of another is free."""

    name = "nsdflow-rebinding"

    def __init__(self) -> None:
        self._scheduler: Scheduler | None = None
        self._callback: PeriodicCallback | None = None
        self._waited_before: set[Any] = set()

    async def start(self, scheduler: Scheduler) -> None:
        """Called by the scheduler when the plugin is added."""
        self._scheduler = scheduler
        self._callback = PeriodicCallback(self.check, REBIND_INTERVAL_S * 1000)
        self._callback.start()

    async def close(self) -> None:
        """Called by the scheduler when it closes."""
        if self._callback is not None:
            self._callback.stop()

    def check(self) -> None:
        """Move waiting tasks, at most one per free GPU."""
        assert self._scheduler is not None
        workers = [worker for worker in self._scheduler.workers.values() if worker.status == Status.running]
        behind = [task for worker in workers for task in _behind(worker)]
        free = sum(max(0, int(_supply(worker)) - len(_bound(worker))) for worker in workers)
        movable = [task for task in behind if task.key in self._waited_before][:free]
        self._waited_before = {task.key for task in behind} - {task.key for task in movable}
        if movable:
            # the scheduler binds a released task to the worker with the least work
            released: dict[Any, Any] = {task.key: "released" for task in movable}
            self._scheduler.transitions(released, stimulus_id=f"nsdflow-rebind-{uuid4().hex[:8]}")


def _supply(worker: WorkerState) -> float:
    return float(worker.resources.get(RESOURCE, 0))


def _bound(worker: WorkerState) -> list[TaskState]:
    return [task for task in worker.processing if (task.resource_restrictions or {}).get(RESOURCE)]


def _behind(worker: WorkerState) -> list[TaskState]:
    """Tasks bound to a worker that it cannot run yet; those that it runs are never among them."""
    bound = _bound(worker)
    waiting = [task for task in bound if task not in worker.executing]
    return waiting[: max(0, len(bound) - int(_supply(worker)))]
