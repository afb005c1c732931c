"""Lost workers: those on this machine are replaced, and a task that does not fit into memory is not retried forever.

A nanny restarts its worker. If the restart takes long, Dask gives up on the nanny and does not start another, so that
a driver would wait forever; :class:`Losses` starts it. A task whose worker exceeded its memory limit is tried once
more, on any free worker, and then fails. Dask alone would try it as often as jobs of a batch system may end.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from distributed import KilledWorker, SpecCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from nsdflow.cluster.batch.pool_cluster import JobPools
from nsdflow.errors import RunError
from nsdflow.io.text import format_bytes

if TYPE_CHECKING:
    from distributed import Client, Scheduler

    from nsdflow.engine.plan import Task

__all__ = ["Losses", "MemoryKills", "explain_loss"]

#: Topic under which a nanny reports that it restarts a worker that exceeded its memory limit.
MEMORY_TOPIC: Final = "worker-restart-memory"
#: Topic of the keys of tasks that exceeded it too often.
TOO_LARGE_TOPIC: Final = "nsdflow-too-large"
#: Number of workers of this machine that may die under a task; normally only the system kills them, for lack of memory.
LOCAL_FAILURES: Final = 2
#: Number of times that a task may exceed the memory limit of its worker.
MEMORY_TRIES: Final = 2
#: Time without any worker after which a run on this machine ends.
NO_WORKER_LIMIT_S: Final = 300.0


class MemoryKills(SchedulerPlugin):
    """Scheduler plugin that counts how often each task exceeded the memory limit of its worker.

    Parameters
    ----------
    allowed_failures : int, optional
        Workers that may die under a task for other reasons; by default as Dask's configuration says.
    """

    name = "nsdflow-memory-kills"
    idempotent = True

    def __init__(self, allowed_failures: int | None = None) -> None:
        self._allowed = allowed_failures
        self._scheduler: Scheduler | None = None
        self._kills: Counter[Any] = Counter()

    async def start(self, scheduler: Scheduler) -> None:
        """Called by the scheduler when the plugin is added."""
        self._scheduler = scheduler
        if self._allowed is not None:
            scheduler.allowed_failures = min(scheduler.allowed_failures, self._allowed)

    def log_event(self, topic: str, msg: Any) -> None:
        """Called by the scheduler for every event; a nanny sends its event before it ends the worker."""
        if topic != MEMORY_TOPIC or self._scheduler is None:
            return
        worker = self._scheduler.workers.get(msg["worker"])
        if worker is None:
            return
        for task in [task for task in worker.processing if task in worker.executing] or list(worker.processing):
            self._kills[task.key] += 1
            if self._kills[task.key] >= MEMORY_TRIES:
                # the removal of the worker counts up, and fails a task that is beyond the limit
                task.suspicious = self._scheduler.allowed_failures
                self._scheduler.log_event(TOO_LARGE_TOPIC, str(task.key))


class Losses:
    """Watches over the workers of a client while a plan is executed.

    Parameters
    ----------
    client : distributed.Client
        Client of the cluster.
    """

    def __init__(self, client: Client) -> None:
        cluster = client.cluster
        self._client = client
        self._local = cluster if isinstance(cluster, SpecCluster) and not isinstance(cluster, JobPools) else None
        self._seen_s = time.monotonic()
        if cluster is not None:
            client.register_plugin(MemoryKills(None if self._local is None else LOCAL_FAILURES))

    def check(self) -> None:
        """Start workers of this machine that were lost.

        Raises
        ------
        RunError
            No worker has been running for minutes.
        """
        if self._local is None:
            return
        if len(self._local.workers) < len(self._local.worker_spec):
            self._local.scale(len(self._local.worker_spec))
        now = time.monotonic()
        if self._local.scheduler_info["workers"]:
            self._seen_s = now
        elif now - self._seen_s > NO_WORKER_LIMIT_S:
            raise RunError(
                f"no worker could be started for {NO_WORKER_LIMIT_S / 60:.0f} minutes, most likely for lack of memory; "
                "run the same command with fewer --workers to continue"
            )


def explain_loss(client: Client, task: Task, error: KilledWorker) -> str:
    """One line about a task whose workers died."""
    limit = error.last_worker.memory_limit
    planned = f" (planned: {format_bytes(task.memory)})" if task.memory else ""
    advice = "use fewer and larger workers (--workers, --memory), or a smaller voxel set; finished tasks are kept"
    if str(error.task) in [key for _, key in client.get_events(TOO_LARGE_TOPIC)]:
        return f"{task.key}: exceeded the {format_bytes(limit)} of memory of its worker twice{planned}; {advice}"
    return (
        f"{task.key}: its workers died {error.allowed_failures + 1} times, most likely killed by the system for lack "
        f"of memory{planned}; {advice}"
    )
