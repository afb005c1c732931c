"""Tasks that were bound to a busy GPU go to one that is free.

Dask binds a task that needs a resource to a worker at once, and for good: when the worker of one training dies while
another training runs, the first is bound to the worker of the second and waits for its end, although a new worker
comes up a moment later. Two trainings that have to run at the same time would wait for ever.
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
#: Seconds between two looks; a task that stands behind another in both of them is moved.
LOOK_EVERY: Final = 2.0


class Rebinding(SchedulerPlugin):
    """Looks for tasks that wait for the GPU of one worker while that of another is free."""

    name = "nsdflow-rebinding"

    def __init__(self) -> None:
        self._scheduler: Scheduler | None = None
        self._looking: PeriodicCallback | None = None
        self._stood_behind: set[Any] = set()

    async def start(self, scheduler: Scheduler) -> None:
        """Called by the scheduler when the plugin is added."""
        self._scheduler = scheduler
        self._looking = PeriodicCallback(self.look, LOOK_EVERY * 1000)
        self._looking.start()

    async def close(self) -> None:
        """Called by the scheduler when it closes."""
        if self._looking is not None:
            self._looking.stop()

    def look(self) -> None:
        """Move as many tasks as there are free GPUs."""
        assert self._scheduler is not None
        workers = [worker for worker in self._scheduler.workers.values() if worker.status == Status.running]
        behind = [task for worker in workers for task in _behind(worker)]
        free = sum(max(0, int(_supply(worker)) - len(_bound(worker))) for worker in workers)
        movable = [task for task in behind if task.key in self._stood_behind][:free]
        self._stood_behind = {task.key for task in behind} - {task.key for task in movable}
        if movable:
            # the scheduler binds what it takes back anew, to the worker that has least to do
            released: dict[Any, Any] = {task.key: "released" for task in movable}
            self._scheduler.transitions(released, stimulus_id=f"nsdflow-rebind-{uuid4().hex[:8]}")


def _supply(worker: WorkerState) -> float:
    return float(worker.resources.get(RESOURCE, 0))


def _bound(worker: WorkerState) -> list[TaskState]:
    return [task for task in worker.processing if (task.resource_restrictions or {}).get(RESOURCE)]


def _behind(worker: WorkerState) -> list[TaskState]:
    """Tasks bound to a worker beyond what it can run at once; those that it runs are never among them."""
    bound = _bound(worker)
    waiting = [task for task in bound if task not in worker.executing]
    return waiting[: max(0, len(bound) - int(_supply(worker)))]
