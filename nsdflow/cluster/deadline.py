"""When a long task should leave its worker, and how another worker continues it.

A job has three deadlines, in this order: the task's own (it checkpoints and leaves), the worker's ``--lifetime`` (the
worker retires), and the job's walltime (the batch system kills it). A task that leaves at the first never reaches the
others.

The task's deadline is a time in seconds since 1970 in the environment of the worker: ``NSDFLOW_DEADLINE``, which the
job scripts of :mod:`nsdflow.cluster.batch.job_pool` set when the job starts, or the batch system's own variable, such
as ``SLURM_JOB_END_TIME``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NoReturn

from distributed import Reschedule, Status, get_worker

from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS
from nsdflow.errors import RunError

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["CHECKPOINT_MARGIN_S", "DEADLINE", "POOL", "deadline", "hand_over", "should_stop"]

DEADLINE = "NSDFLOW_DEADLINE"
#: Set in the environment of workers whose job is replaced when it ends; its value is the pool's name.
POOL = "NSDFLOW_POOL"
#: Time for a checkpoint to be written before the end that the batch system's variable gives.
CHECKPOINT_MARGIN_S = 60.0


def deadline() -> float | None:
    """The time by which tasks of this process have to leave, in seconds since 1970; None without a time limit."""
    if DEADLINE in os.environ:
        return float(os.environ[DEADLINE])
    for system in BATCH_SYSTEMS.values():
        if system.end_time is not None and system.end_time in os.environ:
            return float(os.environ[system.end_time]) - CHECKPOINT_MARGIN_S
    return None


def should_stop() -> bool:
    """Whether a task should checkpoint and leave now, because its worker is closing or the deadline has passed.

    Outside Dask only the deadline counts.
    """
    worker = _current_worker()
    if worker is not None and worker.status is not Status.running:
        return True
    ends = deadline()
    return ends is not None and time.time() >= ends


def hand_over() -> NoReturn:
    """Leave this worker; Dask runs the task again, from its checkpoint, on another one.

    A worker of a pool retires, so that a new job replaces it.

    Raises
    ------
    distributed.Reschedule
        To Dask, which then runs the task elsewhere.
    RunError
        Nothing would replace the worker (a single machine, a batch job that holds the whole run); the message says
        to run the command again.
    """
    worker = _current_worker()
    if worker is None or (worker.status is Status.running and POOL not in os.environ):
        raise RunError("stopped before the walltime with its checkpoint written; run the same command to continue")
    if worker.status is Status.running:
        worker.loop.add_callback(worker.close_gracefully, reason="nsdflow-deadline")
        while worker.status is Status.running:  # the scheduler must know before it looks for another worker
            time.sleep(0.01)
    raise Reschedule


def _current_worker() -> Worker | None:
    try:
        return get_worker()
    except ValueError:  # not in a task
        return None
