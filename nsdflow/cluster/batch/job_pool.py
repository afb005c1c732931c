"""A pool of batch jobs as data: its section of ``jobqueue.yaml``, the number of its jobs, and its job script.

Two sections make the two pools. For SLURM, ``jobqueue.slurm`` is the CPU pool and ``jobqueue.slurm-gpu``, which needs
only the keys that differ, the GPU pool; the same for other batch systems. Without the second section training runs on
CPU workers. In addition to dask-jobqueue's keys, a section may have ``maximum-jobs``.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dask
from dask.utils import parse_bytes
from distributed import Security

from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS, BatchSystem
from nsdflow.cluster.batch.sections import gpu_section, read_section, walltime_seconds
from nsdflow.cluster.deadline import DEADLINE, POOL
from nsdflow.cluster.demand import LOOPBACK_ADDRESS, Demand
from nsdflow.cluster.settings import long_task_settings
from nsdflow.errors import PlanError

__all__ = ["PLACEHOLDERS", "Pool", "job_scripts", "pool_settings", "read_pools"]

#: Largest number of jobs of a pool, if neither the section nor the caller states it.
LARGEST_POOL_JOBS: Final = 4
#: Folder of job logs below the current one, if the section does not name one.
LOG_FOLDER: Final = "nsdflow-jobs"
#: Explains the parts of a job script that are only known when a run starts.
PLACEHOLDERS: Final = "SCHEDULER:PORT and KEYS stand for the address and the credentials of each run"
#: Placeholder for the credentials that each connection creates.
CREDENTIALS_PLACEHOLDER: Final = Security(
    tls_ca_file="KEYS/ca_file.pem", tls_worker_cert="KEYS/cert.pem", tls_worker_key="KEYS/key.pem"
)
#: Longest time before the walltime at which tasks leave.
LARGEST_MARGIN_S: Final = 300


@dataclass(frozen=True)
class Pool:
    """One kind of worker that can be requested from a batch system."""

    name: str
    """``cpu`` or ``gpu``."""
    system: BatchSystem
    settings: Mapping[str, Any]
    """Its section of ``jobqueue.yaml``, complete, as dask-jobqueue reads it."""
    slots: Mapping[str, int]
    """Resources that each worker offers: one task takes one of its pool."""
    maximum: int
    """Largest number of jobs at once."""

    @property
    def config_name(self) -> str:
        """Section under which :func:`pool_settings` passes the settings to dask-jobqueue."""
        return f"nsdflow-{self.name}"

    @property
    def workers_per_job(self) -> int:
        """Worker processes in each job."""
        return int(self.settings["processes"])

    @property
    def memory(self) -> int:
        """Bytes per worker."""
        return int(parse_bytes(self.settings["memory"]) // self.workers_per_job)

    @property
    def logs(self) -> str:
        """Folder of the jobs' log files."""
        return str(self.settings["log-directory"])

    def describe(self) -> str:
        """One line: how many jobs at most, and where they log."""
        text = f"{self.name} pool: at most {self.maximum} jobs of {self.system.name} at once, as there is work"
        return f"{text}; their output is in {Path(self.logs).absolute()}"

    def jobs_for(self, tasks: Mapping[str, int]) -> int:
        """Number of jobs that would run these numbers of tasks ``cpu`` and ``gpu`` at once, up to the maximum."""
        slots = {resource.lower(): count * self.workers_per_job for resource, count in self.slots.items()}
        return min(self.maximum, max(math.ceil(tasks.get(kind, 0) / count) for kind, count in slots.items()))

    def workers_of(self, job: str) -> list[str]:
        """Names of the workers that a job of that name starts."""
        many = self.workers_per_job > 1
        return [f"{job}-{index}" for index in range(self.workers_per_job)] if many else [job]

    def spec(self, security: Security) -> dict[str, Any]:
        """The worker specification from which a SpecCluster starts one job."""
        options = {
            "config_name": self.config_name,
            "interface": self.settings["interface"],
            "security": security,
            "protocol": "tls://",
        }
        return {"cls": self.system.job_type, "options": options}

    def job_script(self, security: Security) -> str:
        """The script of the pool's first job as it would be submitted, apart from the scheduler's address."""
        spec = self.spec(security)
        logs = Path(self.logs)
        existed = logs.exists()
        with dask.config.set(pool_settings([self])):
            job = spec["cls"]("tls://SCHEDULER:PORT", name=f"{self.name}-0", **spec["options"])
        if logs.exists() and not existed:
            logs.rmdir()  # dask-jobqueue creates it also for a job that is only printed
        return str(job.job_script())


def read_pools(kind: str, demand: Demand) -> tuple[Pool, ...]:
    """The pools of a batch system as ``jobqueue.yaml`` describes them, in the order ``cpu``, ``gpu``.

    Raises
    ------
    ConfigError
        A section has missing, unknown or impossible keys; lists all of them.
    """
    system = BATCH_SYSTEMS[kind]
    cpu = read_section(system, kind)
    assert cpu is not None  # dask-jobqueue's defaults have a section for each batch system
    gpu_name = gpu_section(system)
    gpu = read_section(system, gpu_name) if gpu_name is not None and demand.gpus != 0 else None
    cores = cpu["cores"]
    processes = int(cpu["processes"] or max(1, cores // demand.threads_per_worker))
    threads = max(1, cores // processes)
    slots = {"CPU": threads} if gpu else {"CPU": threads, "GPU": 1}
    jobs = None if demand.workers is None else math.ceil(demand.workers / processes)
    pools = [_pool("cpu", system, cpu, processes, slots, jobs)]
    if gpu:
        pools.append(_pool("gpu", system, gpu, 1, {"GPU": 1}, demand.gpus))
    return tuple(pools)


def _pool(
    name: str,
    system: BatchSystem,
    section: Mapping[str, Any],
    processes: int,
    slots: Mapping[str, int],
    jobs: int | None,
) -> Pool:
    walltime = walltime_seconds(section.get("walltime"), system)
    resources = ",".join(f"{resource}={count}" for resource, count in slots.items())
    job_name = section["name"] if section["name"] != "dask-worker" else f"nsdflow-{name}"
    # the worker's HTTP server has neither password nor encryption: only its own node may reach it
    arguments = ["--resources", resources, "--dashboard-address", f"{LOOPBACK_ADDRESS}:0", *_lifetime(walltime)]
    settings = {
        **section,
        "name": job_name,
        "processes": processes,
        "log-directory": section["log-directory"] or LOG_FOLDER,
        "python": _quoted_python(system, section["python"]),
        "local-directory": None if section["local-directory"] is None else f'"{section["local-directory"]}"',
        "worker-extra-args": [*section["worker-extra-args"], *arguments],
        # first nsdflow's lines: the section's own may take minutes, and the walltime counts from the start of the job
        "job-script-prologue": [*_prologue(name, walltime), *section["job-script-prologue"]],
    }
    return Pool(name, system, settings, slots, max(1, jobs or int(section.get("maximum-jobs") or LARGEST_POOL_JOBS)))


def _quoted_python(system: BatchSystem, python: str | None) -> str:
    """The Python of workers, quoted for the shell; by default the one that runs this process.

    A section may also name a command that ends in one: ``apptainer exec image.sif python``.
    """
    path = python or sys.executable
    quoted = shlex.quote(path) if python is None or Path(python).exists() else path
    if system.plain_paths and quoted != path:
        raise PlanError(
            f"{path}: the submit files of {system.name} cannot hold this path; install nsdflow under a plain path"
        )
    return quoted


def margin_s(walltime: int) -> int:
    """Seconds before the walltime at which tasks leave: a tenth of it, at most five minutes.

    The worker itself retires half-way between that moment and the walltime.
    """
    return min(walltime // 10, LARGEST_MARGIN_S)


def _lifetime(walltime: int | None) -> list[str]:
    """When the worker retires; the shell computes it when the worker starts."""
    if walltime is None:
        return []
    after = margin_s(walltime) - margin_s(walltime) // 2
    return ["--lifetime", f"$(( {DEADLINE} + {after} - $(date +%s) ))s"]


def _prologue(pool: str, walltime: int | None) -> list[str]:
    lines = [f"export {POOL}={pool}", "export CUDA_DEVICE_ORDER=PCI_BUS_ID"]
    if walltime is not None:
        lines.append(f"export {DEADLINE}=$(( $(date +%s) + {walltime - margin_s(walltime)} ))")
    # the nanny restarts a worker at nine tenths of its memory, before the batch system kills the job for all of it
    settings = {**long_task_settings(), "distributed.worker.memory.terminate": 0.9}
    lines += [f"export {_variable(key)}='{value}'" for key, value in settings.items() if "scheduler" not in key]
    return lines


def _variable(key: str) -> str:
    """The environment variable from which Dask reads a setting."""
    return "DASK_" + key.upper().replace(".", "__").replace("-", "_")


def pool_settings(pools: Iterable[Pool]) -> dict[str, Any]:
    """Dask settings in which the job classes find each pool's section."""
    return {f"jobqueue.{pool.config_name}": dict(pool.settings) for pool in pools}


def job_scripts(cluster: str, *, workers: int | None = None, gpus: int | None = None) -> dict[str, str]:
    """The job script of each pool that ``--cluster`` would submit, by pool; empty if it is no batch system."""
    if cluster not in BATCH_SYSTEMS:
        return {}
    pools = read_pools(cluster, Demand(workers=workers, gpus=gpus))
    return {pool.name: pool.job_script(CREDENTIALS_PLACEHOLDER) for pool in pools}
