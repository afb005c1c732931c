"""One way to get a Dask client, from threads in this process to the jobs of a batch queue."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dask
from dask.utils import parse_bytes
from distributed import Client
from distributed.utils import silence_logging_cmgr

from nsdflow.cluster.credentials import temporary_credentials
from nsdflow.cluster.demand import PATIENCE, Patience, Wanted
from nsdflow.cluster.job_pool import pool_settings, read_pools
from nsdflow.cluster.jobqueue import QUEUES
from nsdflow.cluster.local import QUIET, local_cluster, threads_cluster
from nsdflow.cluster.pool_cluster import JobPools
from nsdflow.cluster.rebind import Rebinding
from nsdflow.cluster.settings import long_task_settings
from nsdflow.errors import RunError, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["CLUSTERS", "connect"]

#: What ``--cluster`` accepts besides the address of a running scheduler.
CLUSTERS = ("local", "threads", *QUEUES)


@contextmanager
def connect(
    cluster: str = "local",
    *,
    workers: int | None = None,
    threads_per_worker: int = 1,
    memory: int | str | None = None,
    gpus: int | None = None,
    scratch: str | None = None,
    dashboard: str | None = "127.0.0.1",
    patience: Patience = PATIENCE,
) -> Iterator[Client]:
    """Give a client while the block runs; close all that was started for it afterwards.

    Parameters
    ----------
    cluster : str
        ``local``: worker processes on this machine, one a GPU and the rest for the CPU; ``threads``: one worker in
        this process; ``slurm``, ``pbs``, ``sge``, ``lsf``, ``htcondor``...: jobs of that queue as ``jobqueue.yaml``
        describes them (:mod:`nsdflow.cluster.job_pool`), asked for when there is work; or the address of a running
        scheduler (``tcp://...``, ``tls://...``), which is joined and left running.
    workers : int, optional
        CPU workers; by default one for each ``threads_per_worker`` cores that the GPU workers leave. On a queue: at
        most so many, by default what ``jobqueue.yaml`` allows.
    memory : int or str, optional
        Bytes a worker may use (``"8GiB"``) before Dask restarts it; by default an equal share of the machine's. On a
        queue the sections say it.
    gpus : int, optional
        At most so many GPUs (on a queue: GPU jobs); 0 trains on the CPU.
    scratch : str, optional
        Folder for what workers spill; by default Dask's own choice.
    dashboard : str, optional
        The host the dashboard listens on. It has no password: keep it on the loopback address and use a tunnel.
        None starts none.
    patience : Patience, optional
        How long to wait before jobs of a queue are asked about, replaced, released or given up.

    Raises
    ------
    SelectionError
        If there is no such cluster.
    PlanError
        If the queue cannot be used from here, its section of ``jobqueue.yaml`` is incomplete, or what is asked for
        cannot be had anywhere.
    RunError
        If no scheduler answers at the address.
    """
    size = parse_bytes(memory) if isinstance(memory, str) else memory
    wanted = Wanted(workers, threads_per_worker, size, gpus, scratch, dashboard, patience)
    wanted.check()
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(long_task_settings()))
        yield stack.enter_context(_client(cluster, wanted, stack))


def _client(cluster: str, wanted: Wanted, stack: ExitStack) -> Client:
    if "://" in cluster:
        stack.enter_context(silence_logging_cmgr(QUIET))  # a scheduler that dies is told in one line, by the feed
        try:
            return Client(cluster)
        except OSError as error:  # a refused connection, or no answer in time
            raise RunError(
                f"no scheduler answers at {cluster}; start one (dask scheduler), or write --cluster local"
            ) from error
    starters = {"local": local_cluster, "threads": threads_cluster}
    if cluster in QUEUES:
        client = Client(_job_pools(cluster, wanted, stack))
    elif cluster in starters:
        client = Client(stack.enter_context(starters[cluster](wanted)))
    else:
        raise one_of("cluster", cluster, (*CLUSTERS, "tcp://HOST:PORT"))
    client.register_plugin(Rebinding())
    if wanted.dashboard is not None:
        from nsdflow.monitor.dashboard import dask_setup  # bokeh takes a while to import

        client.run_on_scheduler(dask_setup)
    return client


def _job_pools(kind: str, wanted: Wanted, stack: ExitStack) -> JobPools:
    """Pools of batch jobs, encrypted: their scheduler listens where other users of the site can reach it."""
    QUEUES[kind].check()
    pools = read_pools(kind, wanted)
    stack.enter_context(dask.config.set(pool_settings(pools)))
    section = pools[0].settings
    shared = Path(os.path.expandvars(section["shared-temp-directory"] or pools[0].logs)).expanduser()
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    security, on_disk = stack.enter_context(temporary_credentials(shared))
    options = {"interface": section["interface"], **wanted.http(), **(section["scheduler-options"] or {})}
    pools_of_jobs = JobPools(
        pools, scheduler=options, security=security, security_on_disk=on_disk, patience=wanted.patience
    )
    stack.callback(pools_of_jobs.close)
    return pools_of_jobs
