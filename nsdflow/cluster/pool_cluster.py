"""Pools of batch jobs on one scheduler that grow with the work, heal when jobs die, and give up when all of them do.

:class:`JobPools` is a Dask ``SpecCluster`` whose workers are dask-jobqueue's jobs, of as many kinds as there are pools.
A keeper looks at each pool every second: what the feed wants (:meth:`JobPools.want`), which jobs are queued, up,
or gone. Missing jobs are submitted, idle ones released. A job that ends before it was of any use delays the next
(twice as long each time); after a few in a row the pool gives up and says why.
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

from nsdflow.cluster.jobqueue import last_lines, still_queued
from nsdflow.monitor.events import TOPIC, make_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from distributed import Security
    from distributed.scheduler import WorkerState

    from nsdflow.cluster.demand import Patience
    from nsdflow.cluster.job_pool import Pool

__all__ = ["JobPools"]


@dataclass
class _Job:
    """What is known of one batch job."""

    name: str
    up_since: float | None = None
    gone_since: float | None = None
    asked: float = field(default_factory=time.monotonic)
    said: str = ""


@dataclass
class _State:
    """Where one pool stands."""

    pool: Pool
    wanted: int = 0
    """Jobs that the tasks ready or running could use."""
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
    pools
        What can be asked for.
    scheduler
        Options of :class:`distributed.Scheduler`.
    security, security_on_disk
        Credentials of scheduler and client, and of the workers (see :mod:`nsdflow.cluster.credentials`).
    patience
        How long to wait for what.
    """

    scheduler: Scheduler

    def __init__(
        self,
        pools: Iterable[Pool],
        *,
        scheduler: Mapping[str, Any],
        security: Security,
        security_on_disk: Security,
        patience: Patience,
    ) -> None:
        self._states = {pool.name: _State(pool) for pool in pools}
        self._on_disk = security_on_disk
        self._patience = patience
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

    def want(self, tasks: Mapping[str, int]) -> None:
        """Say how many tasks ``cpu`` and ``gpu`` are ready or running; jobs follow within seconds."""
        for state in self._states.values():
            state.wanted = state.pool.jobs_for(tasks)

    def gave_up(self) -> str | None:
        """Why a pool stopped submitting jobs, if one did."""
        return next((state.gave_up for state in self._states.values() if state.gave_up), None)

    def queue_says(self, pool: str) -> str:
        """What the queue last said of the first job of a pool that is not up."""
        waiting = (job for job in self._states[pool].jobs.values() if job.up_since is None)
        return next((job.said for job in waiting), "")

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
        self._keeper.add_done_callback(self._kept)

    async def _close(self) -> None:
        # not cancelled: a job that is being submitted at this moment would stay in the queue, its number unknown
        self._stopping.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])
            self._keeper = None
        for job in self._created:
            job.status = Status.closing  # SpecCluster insists on it, dask-jobqueue's jobs never say so
        await super()._close()

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # not SpecCluster's: it would forget a lost job without asking why, and resubmit it for ever
        Cluster._update_worker_status(self, op, msg)

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            for state in self._states.values():
                for job in list(state.jobs.values()):
                    await self._look(state, job)
                self._grow(state)
                await self._shrink(state)
            await self._submit()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._patience.look)

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        """A keeper that failed must not leave a driver waiting for jobs that nobody submits."""
        if (error := keeper.exception()) is not None:
            for state in self._states.values():
                state.gave_up = f"the {state.pool.name} pool cannot be kept: {type(error).__name__}: {error}"

    async def _look(self, state: _State, job: _Job) -> None:
        """Notice that a job has come up or ended."""
        now = time.monotonic()
        if self._workers(state, job):
            if job.up_since is None:
                job.up_since = now
                self._tell(state, job, "up", "its workers are connected")
            job.gone_since = None
            return
        just_gone = job.up_since is not None and job.gone_since is None
        if just_gone:
            job.gone_since = now
        every = self._patience.ask if job.gone_since is None else self._patience.ask_of_gone
        if not just_gone and now - job.asked < every:
            return
        job.asked = now
        before, (alive, job.said) = job.said, await still_queued(state.pool.queue, self._job_id(job))
        if alive and job.up_since is None and job.said != before:
            self._tell(state, job, "waiting", f"the queue says {job.said}")
        if not alive:
            where = "before its worker came up" if job.up_since is None else "with its worker"
            await self._lose(state, job, f"job {self._job_id(job)} ended {where} {job.said}".rstrip())
        elif job.gone_since is not None and now - job.gone_since > self._patience.vanished:
            await self._lose(state, job, f"the worker of job {self._job_id(job)} vanished")

    async def _lose(self, state: _State, job: _Job, reason: str) -> None:
        """Take a job that ended out of its pool, and remember whether it was of any use."""
        now = time.monotonic()
        job_id = self._job_id(job)
        log = last_lines(state.pool.logs, job_id) if job_id and job.up_since is None else ""
        reason = f"{reason}; its log ends: {log}" if log else reason
        del state.jobs[job.name]
        self.worker_spec.pop(job.name, None)
        if job.up_since is not None and (job.gone_since or now) - job.up_since >= self._patience.useful:
            state.useless = 0
        else:
            state.useless += 1
            wait = self._patience.back_off * 2 ** (state.useless - 1)
            state.not_before = now + min(wait, self._patience.back_off_at_most)
        self._tell(state, job, "lost", reason)
        if state.useless >= self._patience.useless:
            state.gave_up = (
                f"the {state.pool.name} pool gave up: {state.useless} jobs in a row ended before they were of use; "
                f"the last: {reason}"
            )

    def _grow(self, state: _State) -> None:
        """Ask for the jobs that are missing."""
        missing = state.wanted - len(state.jobs)
        if missing <= 0 or state.gave_up or time.monotonic() < state.not_before:
            return
        if state.useless:  # one at a time shows soon enough whether the trouble is over
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

    async def _shrink(self, state: _State) -> None:
        """Release jobs that have had nothing to do for a while: first those that still wait in the queue."""
        surplus = len(state.jobs) - state.wanted
        if surplus <= 0:
            state.surplus_since = None
            return
        now = time.monotonic()
        state.surplus_since = state.surplus_since or now
        if now - state.surplus_since < self._patience.idle:
            return
        idle = [job for job in state.jobs.values() if not any(w.processing for w in self._workers(state, job))]
        for job in sorted(idle, key=lambda job: job.up_since is not None)[:surplus]:
            addresses = [worker.address for worker in self._workers(state, job)]
            await self.scheduler.retire_workers(workers=addresses, close_workers=True, remove=True)
            del state.jobs[job.name]
            self.worker_spec.pop(job.name, None)
            self._tell(state, job, "released", "nothing left for it to do")

    async def _submit(self) -> None:
        """Make the queue agree with ``worker_spec``: submit what is new, cancel what is gone."""
        new = [(state, job) for state in self._states.values() for job in state.jobs.values() if not self._job_id(job)]
        try:
            await self._correct_state()
            for state, job in new:
                self._tell(state, job, "submitted", f"to {state.pool.queue.name}")
        except (RuntimeError, OSError, ValueError) as error:
            reason = f"could not be submitted: {_stderr(error)}"
            for state in self._states.values():
                for job in list(state.jobs.values()):
                    if not self._job_id(job):
                        self.workers.pop(job.name, None)
                        await self._lose(state, job, reason)

    def _workers(self, state: _State, job: _Job) -> list[WorkerState]:
        """The workers of a job that are connected now."""
        aliases: dict[Any, str] = self.scheduler.aliases
        addresses = (aliases.get(name) for name in state.pool.workers_of(job.name))
        return [self.scheduler.workers[address] for address in addresses if address in self.scheduler.workers]

    def _job_id(self, job: _Job) -> str:
        """The queue's number of a job; empty if it was never submitted."""
        return str(getattr(self.workers.get(job.name), "job_id", None) or "")

    def _tell(self, state: _State, job: _Job, what: str, reason: str) -> None:
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
    """What the submit command itself said, of dask-jobqueue's account of its failure."""
    text = str(error)
    said = text.split("stderr:\n", 1)[-1].strip() or text
    return " ".join(said.split())
