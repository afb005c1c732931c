"""Dask configuration for tasks of hours, set for the lifetime of one connection and never at import."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, Final

import dask

__all__ = ["LONG_TASKS", "keep_freed_memory", "long_task_settings"]

#: Free memory that a process keeps, and size of an allocation from which it is not kept.
FREE_BYTES_KEPT: Final = 1 << 30
#: Numbers of the same two settings in glibc's ``malloc.h``.
_MALLOPT: Final = {"M_TRIM_THRESHOLD": -1, "M_MMAP_THRESHOLD": -3}

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
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": str(FREE_BYTES_KEPT),
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": str(FREE_BYTES_KEPT),
    # the profiler looks at every thread, a hundred times per second by default: once is enough for tasks of minutes
    "distributed.worker.profile.interval": "1s",
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


def keep_freed_memory() -> None:
    """Let this process keep free memory, as worker processes do; without glibc nothing changes.

    The environment sets it for processes that start later, not for one that runs tasks in threads.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for number in _MALLOPT.values():
            libc.mallopt(number, FREE_BYTES_KEPT)
