"""Submits no more tasks than a cluster has slots for, and requests batch jobs according to the waiting tasks.

Dask binds a task that needs a resource to a worker as soon as it is submitted, and does not move it when more workers
start. Eight trainings submitted to one live GPU job would all wait for it, although seven more jobs start a minute
later. :class:`Feed` therefore holds tasks back until a slot is live, and reports to pools of batch jobs how many wait.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from nsdflow.cluster.batch.pool_cluster import JobPools
from nsdflow.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client, Future

__all__ = ["Feed", "gpu_workers", "worker_memory"]

#: Time for which the count of live slots is reused, and for which :meth:`Feed.done` waits.
SLOTS_MAX_AGE_S = 1.0
#: Tasks in flight per slot. In the CPU pool one runs, and one waits at the worker and starts at once.
TASKS_PER_SLOT = {"CPU": 2, "GPU": 1}


class Feed:
    """Submits tasks to the pools ``cpu`` and ``gpu`` of a client, and returns the futures that are done.

    Where workers offer a resource ``CPU`` or ``GPU``, a task of that pool takes one of it. On a cluster without these
    resources (such as a scheduler started by the user) tasks run on any free thread.

    Parameters
    ----------
    client : distributed.Client
        Client of the cluster.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._jobs = client.cluster if isinstance(client.cluster, JobPools) else None
        self._done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._pool_of: dict[Future[Any], str] = {}
        self._in_flight: Counter[str] = Counter()
        self._slots: Counter[str] = Counter()
        self._offered = {"CPU", "GPU"} if self._jobs is not None else set()
        self._counted_at = float("-inf")
        self._address = client.scheduler_info()["address"]

    def submit(self, pool: str, function: Callable[..., Any], *arguments: Any, key: str, priority: int = 0) -> None:
        """Submit a task to a worker of a pool; :meth:`room` returns how many more may be submitted."""
        resource = pool.upper()
        future = self.client.submit(
            function,
            *arguments,
            key=key,
            priority=priority,
            resources={resource: 1} if resource in self._offered else None,
        )
        self._pool_of[future] = resource
        self._in_flight[resource] += 1
        future.add_done_callback(self._done.put)

    def room(self, pool: str) -> int:
        """Number of tasks of a pool that may be submitted now."""
        self._count_slots()
        resource = pool.upper()
        return TASKS_PER_SLOT[resource] * self._slots[resource] - self._in_flight[resource]

    def done(self, waiting: Mapping[str, int]) -> list[Future[Any]]:
        """The futures that were done since the last call; waits up to a second for one.

        Parameters
        ----------
        waiting : mapping of int
            Number of tasks per pool that could be submitted if there were room; batch jobs are requested accordingly.

        Raises
        ------
        RunError
            A pool gave up because its jobs keep dying, or the scheduler is gone.
        """
        if self._jobs is not None:
            tasks = {pool: count + self._in_flight[pool.upper()] for pool, count in waiting.items()}
            self._jobs.request(tasks)
            if (reason := self._jobs.gave_up()) is not None:
                raise RunError(f"{reason}; check it with: nsdflow doctor")
        found = []
        try:
            found.append(self._done.get(timeout=SLOTS_MAX_AGE_S))
            while True:
                found.append(self._done.get_nowait())
        except queue.Empty:
            pass
        for future in found:
            self._in_flight[self._pool_of.pop(future)] -= 1
        if self.client.status != "running":
            raise RunError(
                f"the scheduler at {self._address} is gone; start one again and run the same command to continue: "
                "finished tasks are kept"
            )
        return found

    def close(self) -> None:
        """Cancel the tasks in flight and request no more jobs."""
        if self.client.status == "running":
            self.client.cancel(list(self._pool_of))
        if self._jobs is not None:
            self._jobs.request({})

    def _count_slots(self) -> None:
        """Count the live slots."""
        now = time.monotonic()
        if now - self._counted_at < SLOTS_MAX_AGE_S:
            return
        self._counted_at = now
        workers = [w for w in self.client.scheduler_info(n_workers=-1)["workers"].values() if w["status"] == "running"]
        self._slots = Counter({key: int(sum(w["resources"].get(key, 0) for w in workers)) for key in TASKS_PER_SLOT})
        if self._jobs is None:
            self._offered = {key for key, slots in self._slots.items() if slots}
            threads = sum(worker["nthreads"] for worker in workers)
            self._slots.update({key: threads for key in TASKS_PER_SLOT if key not in self._offered})


def worker_memory(client: Client) -> int | None:
    """Bytes of the smallest worker that is live or could be requested; None if unlimited."""
    if isinstance(client.cluster, JobPools):
        return min(pool.memory for pool in client.cluster.pools.values())
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return min((worker["memory_limit"] for worker in workers if worker["memory_limit"]), default=None)


def gpu_workers(client: Client) -> int:
    """Number of worker processes that take tasks of the GPU pool and are live or could be requested.

    Workers without resources count as one in total, because nothing would keep two tasks apart there.
    """
    if isinstance(client.cluster, JobPools):
        return sum(pool.maximum * pool.workers_per_job for pool in client.cluster.pools.values() if "GPU" in pool.slots)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(worker["resources"].get("GPU", 0) >= 1 for worker in workers) or min(1, len(workers))
