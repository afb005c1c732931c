"""Dask configuration for tasks of hours, set for the lifetime of one connection and never at import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import dask

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LONG_TASKS", "long_task_settings"]

#: Settings that differ from Dask's defaults, and why.
LONG_TASKS: Final[Mapping[str, Any]] = {
    # an epoch may keep the interpreter busy for minutes: do not declare its worker dead after five
    "distributed.scheduler.worker-ttl": "30 minutes",
    # each death of a worker counts against all tasks it held, and jobs do die
    "distributed.scheduler.allowed-failures": 20,
    # Dask gives up on the nanny of a worker that is not back in time; a restart imports torch, on a busy machine
    "distributed.deploy.lost-worker-timeout": "60s",
    # shared networks and busy file systems answer late
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "60s",
    "distributed.comm.retry.count": 3,
    # warnings that the event loop was held up are expected while a network compiles
    "distributed.admin.tick.limit": "30s",
    # threads of torch that spin while they wait take the cores from others: six times slower on a busy machine
    "distributed.nanny.pre-spawn-environ.OMP_WAIT_POLICY": "PASSIVE",
    # Dask makes the allocator return every free page at once; networks that reuse the same buffers then spend a third
    # of their time on page faults
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    # the feed fills the slots of each pool; moving long tasks between workers only costs
    "distributed.scheduler.work-stealing": False,
}


def long_task_settings() -> dict[str, Any]:
    """:data:`LONG_TASKS` without the keys that the user's own Dask configuration sets.

    The result is the same before and while these settings hold, because job scripts are written while they do.
    """
    defaults = dask.config.merge(*dask.config.defaults)
    return {
        key: value
        for key, value in LONG_TASKS.items()
        if dask.config.get(key, None) in (dask.config.get(key, None, config=defaults), value)
    }
