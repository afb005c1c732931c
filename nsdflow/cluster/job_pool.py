"""A pool of batch jobs as data: which section of ``jobqueue.yaml``, how many jobs, and the job script that results.

Two sections make the two pools. For SLURM, ``jobqueue.slurm`` is the CPU pool and ``jobqueue.slurm-gpu``, which needs
only what differs, the GPU pool; the other queues likewise. Without the second section training runs on CPU workers.
Besides dask-jobqueue's keys a section may say ``maximum-jobs``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dask
from dask.utils import parse_bytes
from distributed import Security

from nsdflow.cluster.deadline import DEADLINE, POOL
from nsdflow.cluster.demand import Wanted
from nsdflow.cluster.jobqueue import QUEUES, Queue, read_section, seconds_of
from nsdflow.cluster.settings import long_task_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PLACEHOLDERS", "Pool", "job_scripts", "pool_settings", "read_pools"]

#: Jobs of a pool at once, where neither the section nor the caller says.
MAXIMUM_JOBS = 4
#: Where job logs go, where the section does not say: a folder of the current one.
LOGS = "nsdflow-jobs"
#: What a job script holds that is only known when a run starts.
PLACEHOLDERS: Final = "SCHEDULER:PORT and KEYS stand for what each run makes for itself"
#: Stands for the credentials that each connection makes for itself.
TO_BE_MADE: Final = Security(
    tls_ca_file="KEYS/ca_file.pem", tls_worker_cert="KEYS/cert.pem", tls_worker_key="KEYS/key.pem"
)


@dataclass(frozen=True)
class Pool:
    """One kind of worker that a queue can be asked for."""

    name: str
    """``cpu`` or ``gpu``."""
    queue: Queue
    settings: Mapping[str, Any]
    """Its section of ``jobqueue.yaml``, complete, as dask-jobqueue reads it."""
    slots: Mapping[str, int]
    """Resources that each worker offers: one task takes one of its pool."""
    maximum: int
    """No more jobs than this at once."""

    @property
    def config_name(self) -> str:
        """Section under which :func:`pool_settings` hands the settings to dask-jobqueue."""
        return f"nsdflow-{self.name}"

    @property
    def workers_per_job(self) -> int:
        """Worker processes in each job."""
        return int(self.settings["processes"])

    @property
    def memory(self) -> int:
        """Bytes a worker may use."""
        return int(parse_bytes(self.settings["memory"]) // self.workers_per_job)

    @property
    def logs(self) -> str:
        """Folder of the jobs' log files."""
        return str(self.settings["log-directory"])

    def jobs_for(self, tasks: Mapping[str, int]) -> int:
        """How many jobs would run so many tasks ``cpu`` and ``gpu`` at once, up to the maximum, other pools aside."""
        slots = {resource.lower(): count * self.workers_per_job for resource, count in self.slots.items()}
        return min(self.maximum, max(math.ceil(tasks.get(kind, 0) / count) for kind, count in slots.items()))

    def workers_of(self, job: str) -> list[str]:
        """Names of the workers that a job of that name brings up."""
        many = self.workers_per_job > 1
        return [f"{job}-{index}" for index in range(self.workers_per_job)] if many else [job]

    def spec(self, security: Security) -> dict[str, Any]:
        """What a SpecCluster needs to start one job."""
        options = {
            "config_name": self.config_name,
            "interface": self.settings["interface"],
            "security": security,
            "protocol": "tls://",
        }
        return {"cls": self.queue.jobs, "options": options}

    def job_script(self, security: Security = TO_BE_MADE) -> str:
        """The script of the pool's first job, as it would be submitted but for the scheduler's address."""
        spec = self.spec(security)
        logs = Path(self.logs)
        existed = logs.exists()
        with dask.config.set(pool_settings([self])):
            job = spec["cls"]("tls://SCHEDULER:PORT", name=f"{self.name}-0", **spec["options"])
        if logs.exists() and not existed:
            logs.rmdir()  # dask-jobqueue makes it even for a job that is only looked at
        return str(job.job_script())


def read_pools(kind: str, wanted: Wanted) -> tuple[Pool, ...]:
    """The pools of a queue as ``jobqueue.yaml`` describes them, in order ``cpu``, ``gpu``.

    Raises
    ------
    PlanError
        If a section lacks cores or memory, or holds a walltime that is none.
    """
    queue = QUEUES[kind]
    cpu = read_section(queue, kind) or {}
    gpu = read_section(queue, f"{kind}-gpu") if wanted.gpus != 0 else None
    cores = max(1, int(cpu["cores"]))
    processes = int(cpu["processes"] or max(1, cores // wanted.threads_per_worker))
    threads = max(1, cores // processes)
    slots = {"CPU": threads} if gpu else {"CPU": threads, "GPU": 1}
    jobs = None if wanted.workers is None else math.ceil(wanted.workers / processes)
    pools = [_pool("cpu", queue, cpu, processes, slots, jobs)]
    if gpu:
        pools.append(_pool("gpu", queue, gpu, 1, {"GPU": 1}, wanted.gpus))
    return tuple(pools)


def _pool(
    name: str,
    queue: Queue,
    section: Mapping[str, Any],
    processes: int,
    slots: Mapping[str, int],
    jobs: int | None,
) -> Pool:
    walltime = seconds_of(section.get("walltime"), queue.walltime)
    resources = ",".join(f"{resource}={count}" for resource, count in slots.items())
    job_name = section["name"] if section["name"] != "dask-worker" else f"nsdflow-{name}"
    settings = {
        **section,
        "name": job_name,
        "processes": processes,
        "log-directory": section["log-directory"] or LOGS,
        "worker-extra-args": [*section["worker-extra-args"], "--resources", resources, *_lifetime(walltime)],
        # ours first: what the section does before the worker starts may take minutes, and the walltime runs already
        "job-script-prologue": [*_prologue(name, walltime), *section["job-script-prologue"]],
    }
    return Pool(name, queue, settings, slots, max(1, jobs or int(section.get("maximum-jobs") or MAXIMUM_JOBS)))


def margin(walltime: int) -> int:
    """Seconds before the walltime at which tasks leave: a tenth of it, five minutes at most.

    The worker itself retires half-way between that and the walltime.
    """
    return min(walltime // 10, 300)


def _lifetime(walltime: int | None) -> list[str]:
    """When the worker retires, counted by the shell from the moment the worker starts."""
    if walltime is None:
        return []
    after = margin(walltime) - margin(walltime) // 2
    return ["--lifetime", f"$(( {DEADLINE} + {after} - $(date +%s) ))s"]


def _prologue(pool: str, walltime: int | None) -> list[str]:
    lines = [f"export {POOL}={pool}", "export CUDA_DEVICE_ORDER=PCI_BUS_ID"]
    if walltime is not None:
        lines.append(f"export {DEADLINE}=$(( $(date +%s) + {walltime - margin(walltime)} ))")
    # the nanny restarts a worker at nine tenths of its memory, before the queue kills the job for all of it
    settings = {**long_task_settings(), "distributed.worker.memory.terminate": 0.9}
    lines += [f"export {_variable(key)}='{value}'" for key, value in settings.items() if "scheduler" not in key]
    return lines


def _variable(key: str) -> str:
    """The environment variable from which Dask reads a setting."""
    return "DASK_" + key.upper().replace(".", "__").replace("-", "_")


def pool_settings(pools: Iterable[Pool]) -> dict[str, Any]:
    """Dask settings under which the job classes find each pool's section."""
    return {f"jobqueue.{pool.config_name}": dict(pool.settings) for pool in pools}


def job_scripts(cluster: str, *, workers: int | None = None, gpus: int | None = None) -> dict[str, str]:
    """What ``--cluster`` would submit for each pool, by its name, without submitting it; nothing if it is no queue."""
    if cluster not in QUEUES:
        return {}
    pools = read_pools(cluster, Wanted(workers=workers, gpus=gpus))
    return {pool.name: pool.job_script() for pool in pools}
