"""Reading in forked processes, such as the workers of a torch ``DataLoader``.

Dask keeps its threads in module variables. A forked child inherits the variables without the threads, so that every
computation waits forever for threads that do not exist. Dask does not handle this; here the child drops the threads of
its parent, and starts new ones when it computes.
"""

from __future__ import annotations

import os
from functools import cache
from threading import Lock

import dask
import dask.threaded

__all__ = ["survive_forks"]

#: Schedulers of a parent that a child cannot talk to.
DISTRIBUTED = ("dask.distributed", "distributed")


@cache
def survive_forks() -> None:
    """Make lazy arrays computable in processes that are forked later; a second call does nothing."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_parent)


def _forget_parent() -> None:
    """Drop thread pools and scheduler of the parent process."""
    dask.threaded.default_pool = None
    dask.threaded.pools.clear()
    dask.threaded.pools_lock = Lock()
    if dask.config.get("scheduler", None) in (None, *DISTRIBUTED):
        # otherwise the child would use the parent's client, through a connection that only the parent may use
        dask.config.set(scheduler="threads")
