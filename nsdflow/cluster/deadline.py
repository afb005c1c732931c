"""When a long task should leave its worker, and how it hands its work over.

Three clocks run down, in this order: the task's own deadline (it checkpoints and leaves), the worker's ``--lifetime``
(the worker retires), the job's walltime (the queue kills it). A task that leaves at the first never meets the others.

The deadline is a time in seconds since 1970 in the environment of the worker: ``NSDFLOW_DEADLINE``, which the job
scripts of :mod:`nsdflow.cluster.job_pool` set when the job starts, or SLURM's own ``SLURM_JOB_END_TIME``.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from distributed import Reschedule, Status, get_worker

from nsdflow.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client, Worker

__all__ = ["DEADLINE", "MARGIN", "POOL", "deadline", "hand_over", "pretend_interrupt", "should_stop"]

DEADLINE = "NSDFLOW_DEADLINE"
#: Set in the environment of workers whose job is replaced when it ends; its value is the pool's name.
POOL = "NSDFLOW_POOL"
#: Seconds kept free before a queue's own end of the job, for a checkpoint to be written.
MARGIN = 60.0


def deadline() -> float | None:
    """When tasks of this process should have left (seconds since 1970), or None if nothing ends it."""
    if DEADLINE in os.environ:
        return float(os.environ[DEADLINE])
    if "SLURM_JOB_END_TIME" in os.environ:
        return float(os.environ["SLURM_JOB_END_TIME"]) - MARGIN
    return None


def should_stop() -> bool:
    """Whether a task should checkpoint and leave now: its worker is closing, or the deadline has come.

    Outside Dask only the deadline counts; without one the answer is False.
    """
    worker = _current_worker()
    if worker is not None and worker.status is not Status.running:
        return True
    ends = deadline()
    return ends is not None and time.time() >= ends


def hand_over() -> NoReturn:
    """Leave this worker; Dask runs the task again, from its checkpoint, on another one.

    A worker of a pool retires, so that a new job takes its place. Where nothing would replace the worker (a single
    machine, a batch job that holds the whole run) a :class:`~nsdflow.errors.RunError` says to run the command again.
    """
    worker = _current_worker()
    if worker is None or (worker.status is Status.running and POOL not in os.environ):
        raise RunError("stopped before the walltime with its checkpoint written; run the same command to continue")
    if worker.status is Status.running:
        worker.loop.add_callback(worker.close_gracefully, reason="nsdflow-deadline")
        while worker.status is Status.running:  # the scheduler must know before it looks for another worker
            time.sleep(0.01)
    raise Reschedule


@contextmanager
def pretend_interrupt(client: Client) -> Iterator[None]:
    """For tests: every worker believes its deadline has passed while the block runs."""
    client.run(_set_deadline, "0")
    try:
        yield
    finally:
        client.run(_set_deadline, None)


def _set_deadline(value: str | None) -> None:
    if value is None:
        os.environ.pop(DEADLINE, None)
    else:
        os.environ[DEADLINE] = value


def _current_worker() -> Worker | None:
    try:
        return get_worker()
    except ValueError:  # not in a task
        return None
