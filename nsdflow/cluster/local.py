"""The pools on one machine: a worker a GPU, workers of the CPU for the rest, on one scheduler."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from dask.system import CPU_COUNT
from distributed import LocalCluster, Nanny, Scheduler, SpecCluster
from distributed.system import MEMORY_LIMIT

if TYPE_CHECKING:
    from nsdflow.cluster.demand import Wanted

__all__ = ["local_cluster", "threads_cluster", "visible_gpus", "worker_specs"]

#: A task that fails is told once, by whoever asked for it; Dask's workers would add a traceback each.
QUIET = logging.CRITICAL
#: Where every socket of a local cluster listens: scheduler, nannies and workers, their HTTP ports included.
LOOPBACK = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}


def visible_gpus() -> tuple[str, ...]:
    """Ids of the GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` would name them.

    Asks ``nvidia-smi`` rather than torch, so that the driver never opens a context on a card.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        named = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return tuple(gpu.strip() for gpu in named if gpu.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return tuple(str(gpu) for gpu in range(count))


def worker_specs(wanted: Wanted, gpus: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What to start: ``gpu-0``... with one GPU each, then ``cpu-0``... .

    Without a GPU the CPU workers offer the ``GPU`` slot too (one a worker), so that training runs there.
    """
    cpus = wanted.workers or max(1, CPU_COUNT // wanted.threads_per_worker - len(gpus))
    memory = wanted.memory or MEMORY_LIMIT // (cpus + len(gpus))
    shared = {**LOOPBACK, "memory_limit": memory, "local_directory": wanted.scratch, "silence_logs": QUIET}
    slots = {"CPU": wanted.threads_per_worker, **({} if gpus else {"GPU": 1})}
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
            "options": {**shared, "nthreads": wanted.threads_per_worker, "resources": slots},
        }
        for index in range(cpus)
    }
    return specs


def local_cluster(wanted: Wanted) -> SpecCluster:
    """Worker processes under nannies, on the loopback interface only."""
    gpus = visible_gpus()[: wanted.gpus]
    return SpecCluster(
        scheduler={
            "cls": Scheduler,
            "options": {**LOOPBACK, **wanted.http()},
        },
        workers=worker_specs(wanted, gpus),
        silence_logs=QUIET,
        name="local",
    )


def threads_cluster(wanted: Wanted) -> LocalCluster:
    """One worker of threads inside this process: for debuggers, notebooks and tests."""
    http = wanted.http()
    threads = (wanted.workers or 1) * wanted.threads_per_worker
    return LocalCluster(
        n_workers=1,
        threads_per_worker=threads,
        processes=False,
        memory_limit=wanted.memory or 0,
        local_directory=wanted.scratch,
        dashboard_address=http["dashboard_address"],
        scheduler_kwargs={"dashboard": http["dashboard"]},
        worker_dashboard_address=LOOPBACK["dashboard_address"],
        silence_logs=QUIET,
        resources={"CPU": threads, "GPU": 1},
    )
