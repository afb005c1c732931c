"""Pools of batch jobs on one scheduler: they grow with the work, replace jobs that die, and stop if all jobs die.

:class:`JobPools` is a Dask ``SpecCluster`` whose workers are dask-jobqueue's jobs, of one kind per pool. A keeper
checks each pool every second: how many tasks the feed reports (:meth:`JobPools.request`), and which jobs are queued,
up, or gone. It submits missing jobs and releases idle ones. A job that ends before it was useful delays the next
(twice as long each time); after a few in a row the pool gives up with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from distributed import Scheduler, SpecCluster, Status
from distributed.deploy.cluster import Cluster

from nsdflow.cluster.batch.jobqueue import last_lines, still_queued
from nsdflow.monitor.events import TOPIC, make_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from distributed import Security
    from distributed.scheduler import WorkerState

    from nsdflow.cluster.batch.job_pool import Pool
    from nsdflow.cluster.demand import PoolTimes

__all__ = ["JobPools"]


@dataclass
class _Job:
    """One batch job: what is known about it."""

    name: str
    up_since: float | None = None
    gone_since: float | None = None
    queried: float = field(default_factory=time.monotonic)
    """When the batch system was last asked about it."""
    answer: str = ""
    """The answer of the batch system."""


@dataclass
class _PoolState:
    """The current state of one pool."""

    pool: Pool
    target: int = 0
    """Jobs that the ready and running tasks could use."""
    jobs: dict[str, _Job] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)
    useless: int = 0
    not_before: float = 0.0
    surplus_since: float | None = None
    gave_up: str | None = None


class JobPools(SpecCluster):
    """Pools of batch jobs under one scheduler, which runs in this process.

    Parameters
    ----------
    pools : iterable of Pool
        The kinds of jobs.
    scheduler : mapping
        Options of :class:`distributed.Scheduler`.
    security, security_on_disk : distributed.Security
        Credentials of scheduler and client, and of the workers (see :mod:`nsdflow.cluster.credentials`).
    times : PoolTimes
        Intervals and time limits.
    """

    scheduler: Scheduler

    def __init__(
        self,
        pools: Iterable[Pool],
        *,
        scheduler: Mapping[str, Any],
        security: Security,
        security_on_disk: Security,
        times: PoolTimes,
    ) -> None:
        self._states = {pool.name: _PoolState(pool) for pool in pools}
        self._on_disk = security_on_disk
        self._times = times
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        super().__init__(
            workers={},
            scheduler={"cls": Scheduler, "options": {**scheduler, "security": security, "protocol": "tls://"}},
            security=security,
            silence_logs=logging.ERROR,
            name="nsdflow",
        )

    @property
    def pools(self) -> dict[str, Pool]:
        """The pools by name."""
        return {name: state.pool for name, state in self._states.items()}

    def request(self, tasks: Mapping[str, int]) -> None:
        """Set how many tasks ``cpu`` and ``gpu`` are ready or running; jobs follow within seconds."""
        for state in self._states.values():
            state.target = state.pool.jobs_for(tasks)

    def gave_up(self) -> str | None:
        """The reason why a pool stopped submitting jobs; None if all go on."""
        return next((state.gave_up for state in self._states.values() if state.gave_up), None)

    def last_answer(self, pool: str) -> str:
        """The latest answer of the batch system about the first job of a pool that is not up."""
        waiting = (job for job in self._states[pool].jobs.values() if job.up_since is None)
        return next((job.answer for job in waiting), "")

    def jobs(self) -> dict[str, dict[str, int]]:
        """Number of jobs by pool and state (``queued``, ``up``), and the ``maximum``."""
        return {
            name: {
                "queued": sum(job.up_since is None for job in state.jobs.values()),
                "up": sum(job.up_since is not None for job in state.jobs.values()),
                "maximum": state.pool.maximum,
            }
            for name, state in self._states.items()
        }

    async def _start(self) -> None:
        await super()._start()
        self._keeper = asyncio.create_task(self._keep())
        self._keeper.add_done_callback(self._keeper_ended)

    async def _close(self) -> None:
        # wait for the keeper: cancelled while it submits a job, it would leave that job in the queue with unknown id
        self._stopping.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])
            self._keeper = None
        for job in self._created:
            job.status = Status.closing  # SpecCluster requires it, and dask-jobqueue's jobs never set it
        await super()._close()

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # instead of SpecCluster's, which would drop a lost job without the reason, and resubmit it forever
        Cluster._update_worker_status(self, op, msg)

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            for state in self._states.values():
                for job in list(state.jobs.values()):
                    await self._check_job(state, job)
                self._grow(state)
                await self._shrink(state)
            await self._submit()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._times.poll_s)

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        """A keeper that failed must not leave a driver waiting for jobs that are never submitted."""
        if (error := keeper.exception()) is not None:
            for state in self._states.values():
                state.gave_up = f"the {state.pool.name} pool cannot be maintained: {type(error).__name__}: {error}"

    async def _check_job(self, state: _PoolState, job: _Job) -> None:
        """Detect that a job has started or ended."""
        now = time.monotonic()
        if self._workers(state, job):
            if job.up_since is None:
                job.up_since = now
                self._report(state, job, "up", "its workers are connected")
            job.gone_since = None
            return
        just_gone = job.up_since is not None and job.gone_since is None
        if just_gone:
            job.gone_since = now
        interval = self._times.query_s if job.gone_since is None else self._times.query_gone_s
        if not just_gone and now - job.queried < interval:
            return
        job.queried = now
        before, (alive, job.answer) = job.answer, await still_queued(state.pool.system, self._job_id(job))
        if alive and job.up_since is None and job.answer != before:
            self._report(state, job, "waiting", f"{state.pool.system.name} reports {job.answer}")
        if not alive:
            where = "before its worker came up" if job.up_since is None else "with its worker"
            await self._lose(state, job, f"job {self._job_id(job)} ended {where} {job.answer}".rstrip())
        elif job.gone_since is not None and now - job.gone_since > self._times.vanished_s:
            await self._lose(state, job, f"the worker of job {self._job_id(job)} vanished")

    async def _lose(self, state: _PoolState, job: _Job, reason: str) -> None:
        """Remove a job that ended from its pool, and count it if it was useless."""
        now = time.monotonic()
        job_id = self._job_id(job)
        log = last_lines(state.pool.logs, job_id) if job_id and job.up_since is None else ""
        reason = f"{reason}; its log ends: {log}" if log else reason
        del state.jobs[job.name]
        self.worker_spec.pop(job.name, None)
        if job.up_since is not None and (job.gone_since or now) - job.up_since >= self._times.useful_s:
            state.useless = 0
        else:
            state.useless += 1
            wait = self._times.back_off_s * 2 ** (state.useless - 1)
            state.not_before = now + min(wait, self._times.back_off_max_s)
        self._report(state, job, "lost", reason)
        if state.useless >= self._times.useless_jobs:
            state.gave_up = (
                f"the {state.pool.name} pool gave up: {state.useless} jobs in a row ended before they were useful; "
                f"the last: {reason}"
            )

    def _grow(self, state: _PoolState) -> None:
        """Add the missing jobs to the specification."""
        missing = state.target - len(state.jobs)
        if missing <= 0 or state.gave_up or time.monotonic() < state.not_before:
            return
        if state.useless:  # one at a time until one is useful
            if any(job.up_since is None for job in state.jobs.values()):
                return
            missing = 1
        for _ in range(missing):
            name = f"{state.pool.name}-{next(state.numbers)}"
            spec = state.pool.spec(self._on_disk)
            if state.pool.workers_per_job > 1:
                spec["group"] = [f"-{index}" for index in range(state.pool.workers_per_job)]
            self.worker_spec[name] = spec
            state.jobs[name] = _Job(name)

    async def _shrink(self, state: _PoolState) -> None:
        """Release jobs that were idle for a while, first those that still wait in the queue."""
        surplus = len(state.jobs) - state.target
        if surplus <= 0:
            state.surplus_since = None
            return
        now = time.monotonic()
        state.surplus_since = state.surplus_since or now
        if now - state.surplus_since < self._times.idle_s:
            return
        idle = [job for job in state.jobs.values() if not any(w.processing for w in self._workers(state, job))]
        for job in sorted(idle, key=lambda job: job.up_since is not None)[:surplus]:
            addresses = [worker.address for worker in self._workers(state, job)]
            await self.scheduler.retire_workers(workers=addresses, close_workers=True, remove=True)
            del state.jobs[job.name]
            self.worker_spec.pop(job.name, None)
            self._report(state, job, "released", "it has no more work")

    async def _submit(self) -> None:
        """Bring the batch system in line with ``worker_spec``: submit new jobs, cancel removed ones."""
        new = [(state, job) for state in self._states.values() for job in state.jobs.values() if not self._job_id(job)]
        try:
            await self._correct_state()
            for state, job in new:
                self._report(state, job, "submitted", f"to {state.pool.system.name}")
        except (RuntimeError, OSError, ValueError) as error:
            reason = f"could not be submitted: {_stderr(error)}"
            for state in self._states.values():
                for job in list(state.jobs.values()):
                    if not self._job_id(job):
                        self.workers.pop(job.name, None)
                        await self._lose(state, job, reason)

    def _workers(self, state: _PoolState, job: _Job) -> list[WorkerState]:
        """The workers of a job that are connected now."""
        aliases: dict[Any, str] = self.scheduler.aliases
        addresses = (aliases.get(name) for name in state.pool.workers_of(job.name))
        return [self.scheduler.workers[address] for address in addresses if address in self.scheduler.workers]

    def _job_id(self, job: _Job) -> str:
        """The batch system's id of a job; empty before it is submitted."""
        return str(getattr(self.workers.get(job.name), "job_id", None) or "")

    def _report(self, state: _PoolState, job: _Job, what: str, reason: str) -> None:
        """Send an event about a job."""
        self.scheduler.log_event(
            TOPIC,
            make_event(
                "job",
                pool=state.pool.name,
                name=job.name,
                id=self._job_id(job),
                state=what,
                reason=reason,
                jobs=self.jobs(),
            ),
        )


def _stderr(error: Exception) -> str:
    """The submit command's own words, out of dask-jobqueue's message about its failure."""
    text = str(error)
    said = text.split("stderr:\n", 1)[-1].strip() or text
    return " ".join(said.split())
