"""Feeding a cluster: no more tasks in flight than there are slots for, and jobs asked for by what is waiting.

Dask binds a task that needs a resource to a worker as soon as it is submitted, and does not move it when more workers
come up. Eight trainings submitted to one live GPU job would wait for that one although seven more start a minute
later. :class:`Feed` therefore holds tasks back until a slot is live, and tells pools of batch jobs how many wait.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from nsdflow.cluster.pool_cluster import JobPools
from nsdflow.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client, Future

__all__ = ["Feed", "gpu_workers", "worker_memory"]

#: Seconds for which the live slots of a cluster are taken as known.
FRESH = 1.0
#: Tasks of the CPU pool in flight for each slot: one that runs, one that waits at the worker and starts at once.
AHEAD = {"CPU": 2, "GPU": 1}


class Feed:
    """Submits tasks to the pools ``cpu`` and ``gpu`` of a client, and gives back the futures that are done.

    Where workers offer a resource ``CPU`` or ``GPU``, tasks of that pool take one of it. On a cluster that offers
    none (a scheduler somebody else started) tasks run wherever there is a free thread.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._jobs = client.cluster if isinstance(client.cluster, JobPools) else None
        self._done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._pool_of: dict[Future[Any], str] = {}
        self._flying: Counter[str] = Counter()
        self._slots: Counter[str] = Counter()
        self._offered = {"CPU", "GPU"} if self._jobs is not None else set()
        self._looked = float("-inf")
        self._address = client.scheduler_info()["address"]

    def submit(self, pool: str, function: Callable[..., Any], *arguments: Any, key: str, priority: int = 0) -> None:
        """Send a task to a worker of a pool; :meth:`room` says whether one is free."""
        resource = pool.upper()
        future = self.client.submit(
            function,
            *arguments,
            key=key,
            priority=priority,
            resources={resource: 1} if resource in self._offered else None,
        )
        self._pool_of[future] = resource
        self._flying[resource] += 1
        future.add_done_callback(self._done.put)

    def room(self, pool: str) -> int:
        """How many more tasks of a pool may be submitted now."""
        self._look()
        resource = pool.upper()
        return AHEAD[resource] * self._slots[resource] - self._flying[resource]

    def done(self, waiting: Mapping[str, int]) -> list[Future[Any]]:
        """The futures that were done since the last call; waits up to a second for one.

        ``waiting`` counts the tasks of each pool that could be submitted if there were room; jobs are asked for
        accordingly.

        Raises
        ------
        RunError
            If a pool gave up because its jobs keep dying, or the scheduler is gone.
        """
        if self._jobs is not None:
            wanted = {pool: count + self._flying[pool.upper()] for pool, count in waiting.items()}
            self._jobs.want(wanted)
            if (reason := self._jobs.gave_up()) is not None:
                raise RunError(f"{reason}; check it with: nsdflow doctor")
        found = []
        try:
            found.append(self._done.get(timeout=FRESH))
            while True:
                found.append(self._done.get_nowait())
        except queue.Empty:
            pass
        for future in found:
            self._flying[self._pool_of.pop(future)] -= 1
        if self.client.status != "running":
            raise RunError(
                f"the scheduler at {self._address} is gone; start one again and run the same command to continue: "
                "what is done stays done"
            )
        return found

    def close(self) -> None:
        """Cancel what is in flight and ask for no more jobs."""
        if self.client.status == "running":
            self.client.cancel(list(self._pool_of))
        if self._jobs is not None:
            self._jobs.want({})

    def _look(self) -> None:
        """Count the live slots."""
        now = time.monotonic()
        if now - self._looked < FRESH:
            return
        self._looked = now
        workers = [w for w in self.client.scheduler_info(n_workers=-1)["workers"].values() if w["status"] == "running"]
        self._slots = Counter({key: int(sum(w["resources"].get(key, 0) for w in workers)) for key in AHEAD})
        if self._jobs is None:
            self._offered = {key for key, slots in self._slots.items() if slots}
            threads = sum(worker["nthreads"] for worker in workers)
            self._slots.update({key: threads for key in AHEAD if key not in self._offered})


def worker_memory(client: Client) -> int | None:
    """Bytes that the smallest worker may use, of those that are live or could be asked for; None if unlimited."""
    if isinstance(client.cluster, JobPools):
        return min(pool.memory for pool in client.cluster.pools.values())
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return min((worker["memory_limit"] for worker in workers if worker["memory_limit"]), default=None)


def gpu_workers(client: Client) -> int:
    """Worker processes that take tasks of the GPU pool and are live or could be asked for.

    Workers that offer no resources count once in all: nothing would keep two tasks apart there.
    """
    if isinstance(client.cluster, JobPools):
        return sum(pool.maximum * pool.workers_per_job for pool in client.cluster.pools.values() if "GPU" in pool.slots)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(worker["resources"].get("GPU", 0) >= 1 for worker in workers) or min(1, len(workers))
