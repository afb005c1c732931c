"""Worker processes on this machine: one per GPU and the rest for the CPU, within the limits of an allocation."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import takewhile
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Final

import dask
from dask.system import CPU_COUNT
from distributed import LocalCluster, Nanny, Scheduler, Security, SpecCluster
from distributed.system import MEMORY_LIMIT

from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS
from nsdflow.cluster.credentials import new_credentials
from nsdflow.cluster.demand import LOOPBACK_ADDRESS, Demand

__all__ = ["available_cores", "available_memory", "local_cluster", "threads_cluster", "visible_gpus", "worker_specs"]

#: The caller reports a failed task once; Dask's workers would add a traceback each.
WORKER_LOG_LEVEL: Final = logging.CRITICAL
#: Address of every socket of a local cluster: scheduler, nannies and workers, including their HTTP ports.
ON_LOOPBACK: Final = {"host": LOOPBACK_ADDRESS, "dashboard_address": f"{LOOPBACK_ADDRESS}:0"}
#: Values of ``CUDA_VISIBLE_DEVICES`` that name no GPU; the last is SLURM's for a job without GPUs.
NO_GPU: Final = ("", "-1", "none", "void", "nodevfiles")
#: Names the control groups of this process; Linux only.
OWN_GROUPS: Final = Path("/proc/self/cgroup")


def visible_gpus() -> tuple[str, ...]:
    """Ids of the GPUs that this process may use, as in ``CUDA_VISIBLE_DEVICES``.

    Asks ``nvidia-smi`` rather than torch, so that the driver never opens a context on a card.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        named = [gpu.strip() for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
        # CUDA stops at the first id that names no GPU, and sees none where one is named twice
        seen = tuple(takewhile(lambda gpu: gpu.lower() not in NO_GPU and not gpu.startswith("-"), named))
        return seen if len(set(seen)) == len(seen) else ()
    if shutil.which("nvidia-smi") is None:
        return ()
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return tuple(str(gpu) for gpu in range(count))


def available_cores(environ: Mapping[str, str] = os.environ, cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores of this machine, or of the allocation of the batch job or container in which this process runs.

    Parameters
    ----------
    environ : mapping of str
        Environment; inside a batch job it says how many cores the job has.
    cgroups : Path
        Where the control groups are mounted.
    """
    limits = [float(CPU_COUNT)]
    for system in BATCH_SYSTEMS.values():
        if system.job_id is not None and system.job_id in environ:
            named = [environ[name] for name in system.cores if environ.get(name, "").isdigit()]
            limits += [float(count) for count in named[:1] if count != "0"]
    for quota, period in _cpu_quotas(cgroups):
        limits += [float(quota) / float(period)] if quota.isdigit() else []  # "max" or "-1": none
    return max(1, int(min(limits)))


def available_memory(environ: Mapping[str, str] = os.environ, cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory of this machine, or of the allocation in which this process runs.

    Parameters
    ----------
    environ : mapping of str
        As for :func:`available_cores`.
    cgroups : Path
        As for :func:`available_cores`.
    """
    limits = [int(MEMORY_LIMIT)]
    for system in BATCH_SYSTEMS.values():
        if system.job_id is not None and system.job_id in environ:
            for name, counts in system.memory_mib.items():
                count = next((int(environ[per]) for per in counts if environ.get(per, "").isdigit()), 1)
                limits += [(int(environ[name]) << 20) * count] if environ.get(name, "").isdigit() else []
    for group, version in _own_groups(cgroups, "memory"):
        value = _content(group / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        limits += [int(value)] if value.isdigit() else []
    return min(limit for limit in limits if limit > 0)


def _cpu_quotas(cgroups: Path) -> Iterator[tuple[str, str]]:
    """Microseconds of processor time, and the period in which they may be used, of each group that has a limit."""
    for group, version in _own_groups(cgroups, "cpu"):
        if version == 2:
            quota, _, period = _content(group / "cpu.max").partition(" ")
        else:
            quota, period = (_content(group / f"cpu.cfs_{what}_us") for what in ("quota", "period"))
        if quota and period:
            yield quota, period


def _own_groups(cgroups: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The control groups of this process and those above them, with their version: 2, or 1 of a controller."""
    for line in _content(OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, version = cgroups, 2
        elif controller in controllers.split(","):
            root, version = cgroups / controller, 1
        else:
            continue
        group = root / path.strip("/")
        for place in (group, *group.parents):
            if place.is_relative_to(root):
                yield place, version


def _content(file: Path) -> str:
    """The text of a small file of the kernel, stripped; empty where it does not exist or cannot be read."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def worker_specs(demand: Demand, gpus: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Specifications of the workers: ``gpu-0``... with one GPU each, then ``cpu-0``... .

    Without a GPU each CPU worker also offers one ``GPU`` slot, so that training runs there.

    Parameters
    ----------
    demand : Demand
        Number and size of the workers.
    gpus : tuple of str
        Ids of the GPUs to use.
    """
    cpus = demand.workers or max(1, available_cores() // demand.threads_per_worker - len(gpus))
    memory = demand.memory or available_memory() // (cpus + len(gpus))
    shared = {
        **ON_LOOPBACK,
        "memory_limit": memory,
        "local_directory": demand.scratch,
        "silence_logs": WORKER_LOG_LEVEL,
    }
    slots = {"CPU": demand.threads_per_worker, **({} if gpus else {"GPU": 1})}
    specs = {
        f"gpu-{index}": {
            "cls": Nanny,
            "options": {**shared, "nthreads": 1, "resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": gpu}},
        }
        for index, gpu in enumerate(gpus)
    }
    specs |= {
        f"cpu-{index}": {
            "cls": Nanny,
            "options": {**shared, "nthreads": demand.threads_per_worker, "resources": slots},
        }
        for index in range(cpus)
    }
    return specs


class _LocalProcesses(SpecCluster):
    """Worker processes that ignore Ctrl-C: the driver decides what happens to them."""

    async def _start(self) -> None:
        _start_resource_tracker()
        # signals that are blocked in the thread that starts a process are blocked in that process; Python runs its
        # handlers in the main thread, whatever is blocked here
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        await super()._start()


def _start_resource_tracker() -> None:
    """Start multiprocessing's helper process, which otherwise unblocks SIGINT in the thread that starts it first.

    It removes the semaphores of processes that ended at once; its warning about them is switched off.
    """
    sys.warnoptions.append("ignore:resource_tracker")  # inherited by the helper
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove("ignore:resource_tracker")


def local_cluster(demand: Demand) -> SpecCluster:
    """Worker processes under nannies, on the loopback address only.

    They use TLS if Dask's configuration requires encryption.
    """
    gpus = visible_gpus()[: demand.gpus]
    workers = worker_specs(demand, gpus)
    scheduler = {**ON_LOOPBACK, **demand.http()}
    security = new_credentials() if dask.config.get("distributed.comm.require-encryption", False) else None
    if security is not None:
        encrypted = {"security": security, "protocol": "tls://"}
        scheduler |= encrypted
        for spec in workers.values():
            spec["options"] |= encrypted
    return _LocalProcesses(
        scheduler={"cls": Scheduler, "options": scheduler},
        workers=workers,
        security=security,
        silence_logs=WORKER_LOG_LEVEL,
        name="local",
    )


def threads_cluster(demand: Demand) -> LocalCluster:
    """One worker of threads inside this process: for debuggers, notebooks and tests."""
    http = demand.http()
    threads = (demand.workers or 1) * demand.threads_per_worker
    return LocalCluster(
        n_workers=1,
        threads_per_worker=threads,
        processes=False,
        memory_limit=demand.memory or 0,
        local_directory=demand.scratch,
        dashboard_address=http["dashboard_address"],
        scheduler_kwargs={"dashboard": http["dashboard"]},
        worker_dashboard_address=ON_LOOPBACK["dashboard_address"],
        silence_logs=WORKER_LOG_LEVEL,
        security=Security(require_encryption=False),  # nothing leaves this process
        resources={"CPU": threads, "GPU": 1},
    )
