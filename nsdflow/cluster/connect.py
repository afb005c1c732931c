"""One way to get a Dask client, from threads in this process to the jobs of a batch system."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dask
import psutil
from dask.utils import parse_bytes
from distributed import Client
from distributed.utils import silence_logging_cmgr

from nsdflow.cluster.batch.job_pool import pool_settings, read_pools
from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS, SUBMIT_HOSTS
from nsdflow.cluster.batch.pool_cluster import JobPools
from nsdflow.cluster.credentials import temporary_credentials
from nsdflow.cluster.demand import LOOPBACK_ADDRESS, POOL_TIMES, Demand, PoolTimes
from nsdflow.cluster.local import WORKER_LOG_LEVEL, local_cluster, threads_cluster, visible_gpus, worker_specs
from nsdflow.cluster.rebind import Rebinding
from nsdflow.cluster.settings import long_task_settings
from nsdflow.errors import NsdflowError, PlanError, RunError, one_of
from nsdflow.io.paths import normalize
from nsdflow.monitor.events import Listener, make_event
from nsdflow.monitor.links import links_of

__all__ = ["CLUSTERS", "Capacity", "announce", "capacity", "connect", "dashboard_of"]

#: What ``--cluster`` accepts besides the address of a running scheduler.
CLUSTERS: Final = ("local", "threads", *BATCH_SYSTEMS)


@contextmanager
def connect(
    cluster: str = "local",
    *,
    workers: int | None = None,
    threads_per_worker: int = 1,
    memory: int | str | None = None,
    gpus: int | None = None,
    scratch: str | None = None,
    dashboard: str | None = LOOPBACK_ADDRESS,
    times: PoolTimes = POOL_TIMES,
) -> Iterator[Client]:
    """Give a client while the block runs; afterwards close everything that was started for it.

    Parameters
    ----------
    cluster : str
        ``local``: worker processes on this machine, one per GPU and the rest for the CPU; ``threads``: one worker in
        this process; ``slurm``, ``pbs``, ``sge``, ``lsf``, ``htcondor``...: jobs of that batch system as
        ``jobqueue.yaml`` describes them (:mod:`nsdflow.cluster.batch.job_pool`), submitted when there is work; or the
        address of a running scheduler (``tcp://...``, ``tls://...``), which keeps running.
    workers : int, optional
        CPU workers; default: one per ``threads_per_worker`` cores that the GPU workers leave. On a batch system the
        largest number; default: what ``jobqueue.yaml`` allows.
    threads_per_worker : int
        Threads of each CPU worker.
    memory : int or str, optional
        Bytes per worker (``"8GiB"``) before Dask restarts it; default: an equal share of the machine's. On a batch
        system the sections of ``jobqueue.yaml`` set it.
    gpus : int, optional
        Largest number of GPUs (on a batch system: of GPU jobs); 0 trains on the CPU.
    scratch : str, optional
        Folder to which workers spill; default: Dask's own choice.
    dashboard : str, optional
        The address on which the dashboard listens. It has no password: keep it on the loopback address and use a
        tunnel. None starts no dashboard.
    times : PoolTimes, optional
        Intervals and time limits of pools of batch jobs.

    Yields
    ------
    distributed.Client
        Connected, with nsdflow's scheduler plugins.

    Raises
    ------
    SelectionError
        There is no such cluster.
    ConfigError
        The sections of ``jobqueue.yaml`` have mistakes.
    PlanError
        The batch system cannot be used from here, or no cluster can provide the requested resources.
    RunError
        No scheduler answers at the address.
    """
    demand = _demand(workers, threads_per_worker, memory, gpus, scratch, dashboard, times)
    with ExitStack() as stack:
        with _starting(cluster):
            stack.enter_context(dask.config.set(long_task_settings()))
            client = stack.enter_context(_client(cluster, demand, stack))
        yield client


@contextmanager
def _starting(cluster: str) -> Iterator[None]:
    """Turn Dask's errors about its configuration, ports or files into one line."""
    try:
        yield
    except NsdflowError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, ImportError, OSError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise PlanError(
            f"--cluster {cluster} does not start ({reason}); check Dask's configuration in {dask.config.PATH}"
        ) from error


@dataclass(frozen=True)
class Capacity:
    """Resources of the workers of a cluster."""

    memory: int | None
    """Bytes of the smallest worker; None: unlimited or unknown."""
    gpu_workers: int | None
    """Workers that take tasks of the GPU pool; None: unknown."""


def capacity(
    cluster: str = "local",
    *,
    workers: int | None = None,
    threads_per_worker: int = 1,
    memory: int | str | None = None,
    gpus: int | None = None,
) -> Capacity:
    """Return the resources that :func:`connect` would provide for the same arguments, without starting anything.

    Raises
    ------
    SelectionError, ConfigError, PlanError
        As for :func:`connect`.
    """
    demand = _demand(workers, threads_per_worker, memory, gpus, None, None, POOL_TIMES)
    if cluster in BATCH_SYSTEMS:
        pools = read_pools(cluster, demand)
        gpu_workers = sum(pool.maximum * pool.workers_per_job for pool in pools if "GPU" in pool.slots)
        return Capacity(min(pool.memory for pool in pools), gpu_workers)
    if cluster == "local":
        options = [spec["options"] for spec in worker_specs(demand, visible_gpus()[: demand.gpus]).values()]
        return Capacity(options[0]["memory_limit"], sum("GPU" in option["resources"] for option in options))
    if cluster == "threads":
        return Capacity(demand.memory, 1)
    if "://" in cluster:
        return Capacity(None, None)
    raise one_of("cluster", cluster, (*CLUSTERS, "tcp://HOST:PORT"))


def announce(client: Client, listener: Listener) -> None:
    """Send a listener one note per pool of batch jobs and per link to the dashboard."""
    lines = [pool.describe() for pool in client.cluster.pools.values()] if isinstance(client.cluster, JobPools) else []
    lines += [f"dashboard, {way}: {link}" for way, link in dashboard_of(client).items()]
    for line in lines:
        listener(make_event("note", text=line))


def dashboard_of(client: Client) -> dict[str, str]:
    """Links to the dashboard of a client's scheduler, by kind of access; empty if it has none."""
    return links_of(client, submit_hosts=SUBMIT_HOSTS, site=isinstance(client.cluster, JobPools))


def _demand(
    workers: int | None,
    threads_per_worker: int,
    memory: int | str | None,
    gpus: int | None,
    scratch: str | None,
    dashboard: str | None,
    times: PoolTimes,
) -> Demand:
    try:
        size = parse_bytes(memory) if isinstance(memory, str) else memory
    except ValueError:
        raise PlanError(f"memory: {memory!r} is not a memory size; write for example 8GiB") from None
    folder = None if scratch is None else normalize(scratch)
    demand = Demand(workers, threads_per_worker, size, gpus, folder, dashboard, times)
    demand.check()
    return demand


def _client(cluster: str, demand: Demand, stack: ExitStack) -> Client:
    if "://" in cluster:
        # the feed reports a scheduler that dies, in one line
        stack.enter_context(silence_logging_cmgr(WORKER_LOG_LEVEL))
        try:
            return Client(cluster)
        except (OSError, RuntimeError, ValueError) as error:  # refused, no answer in time, encryption required
            reason = "" if isinstance(error, OSError) else f" ({' '.join(str(error).split())})"
            raise RunError(
                f"no scheduler answers at {cluster}{reason}; start one (dask scheduler), or write --cluster local"
            ) from None
    starters = {"local": local_cluster, "threads": threads_cluster}
    if cluster not in CLUSTERS:
        raise one_of("cluster", cluster, (*CLUSTERS, "tcp://HOST:PORT"))
    if (folder := _temporary_directory()) is not None:
        stack.enter_context(dask.config.set({"temporary-directory": folder}))
    _check_scratch(demand)
    if cluster in BATCH_SYSTEMS:
        client = Client(_job_pools(cluster, demand, stack))
    else:
        client = Client(stack.enter_context(starters[cluster](demand)))
    client.register_plugin(Rebinding())
    if demand.dashboard is not None:
        from nsdflow.monitor.dashboard import dask_setup  # bokeh takes a while to import

        client.run_on_scheduler(dask_setup)
    return client


def _check_scratch(demand: Demand) -> None:
    """Refuse a folder for workers' files that cannot be made: Dask would fail with a traceback per worker."""
    named = {"scratch": demand.scratch, "temporary-directory in Dask's configuration": _temporary_directory()}
    for what, folder in named.items():
        if folder is None:
            continue
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlanError(
                f"{what}: {folder} cannot be used ({error.strerror}); name a folder of this machine"
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PlanError(f"{what}: {folder} cannot be written; name another folder")


def _temporary_directory() -> str | None:
    folder: Any = dask.config.get("temporary-directory", None)
    if folder in (None, ""):
        return None
    if not isinstance(folder, str):
        raise PlanError(f"temporary-directory in Dask's configuration is {folder!r}; write the path of a folder")
    return normalize(folder)


def _job_pools(kind: str, demand: Demand, stack: ExitStack) -> JobPools:
    """Pools of batch jobs, encrypted: their scheduler listens where other users of the site can reach it."""
    BATCH_SYSTEMS[kind].check()
    pools = read_pools(kind, demand)
    stack.enter_context(dask.config.set(pool_settings(pools)))
    section = pools[0].settings
    options = {**demand.http(), **(section["scheduler-options"] or {})}
    if "host" not in options:
        options.setdefault("interface", section["interface"])
    _check_interface(kind, options)
    shared = Path(normalize(section["shared-temp-directory"] or pools[0].logs))
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    security, on_disk = stack.enter_context(temporary_credentials(shared))
    pools_of_jobs = JobPools(pools, scheduler=options, security=security, security_on_disk=on_disk, times=demand.times)
    stack.callback(pools_of_jobs.close)
    return pools_of_jobs


def _check_interface(kind: str, options: Mapping[str, Any]) -> None:
    """Refuse a network interface that this machine, where the scheduler runs, does not have."""
    interface, present = options.get("interface"), psutil.net_if_addrs()
    if interface is not None and interface not in present:
        other = next((name for name in present if name != "lo"), "eth0")
        raise PlanError(
            f"jobqueue.yaml, section {kind}: interface: {interface} is not on this machine, which has "
            f"{', '.join(present)}; add scheduler-options: {{interface: {other}}}"
        )
