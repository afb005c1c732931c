"""One way to get a Dask client, from threads in this process to the jobs of a batch queue."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import dask
from dask.utils import parse_bytes
from distributed import Client

from nsdflow.cluster.local import local_cluster, threads_cluster
from nsdflow.cluster.settings import long_task_settings
from nsdflow.cluster.wanted import Wanted
from nsdflow.errors import one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed.deploy.cluster import Cluster

__all__ = ["CLUSTERS", "connect"]

#: What ``--cluster`` accepts besides the address of a running scheduler.
CLUSTERS = ("local", "threads")


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
) -> Iterator[Client]:
    """Give a client while the block runs; close all that was started for it afterwards.

    Parameters
    ----------
    cluster : str
        ``local``: worker processes on this machine, one a GPU and the rest for the CPU; ``threads``: one worker in
        this process; or the address of a running scheduler (``tcp://...``, ``tls://...``), which is joined and left
        running.
    workers : int, optional
        CPU workers; by default one for each ``threads_per_worker`` cores that the GPU workers leave.
    memory : int or str, optional
        Bytes a worker may use (``"8GiB"``) before Dask restarts it; by default an equal share of the machine's.
    gpus : int, optional
        At most so many GPUs; 0 trains on the CPU.
    scratch : str, optional
        Folder for what workers spill; by default Dask's own choice.
    dashboard : str, optional
        The host the dashboard listens on. It has no password: keep it on the loopback address and use a tunnel.
        None starts none.

    Raises
    ------
    SelectionError
        If there is no such cluster.
    """
    size = parse_bytes(memory) if isinstance(memory, str) else memory
    wanted = Wanted(workers, threads_per_worker, size, gpus, scratch, dashboard)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(long_task_settings()))
        yield stack.enter_context(_client(cluster, wanted, stack))


def _client(cluster: str, wanted: Wanted, stack: ExitStack) -> Client:
    if "://" in cluster:
        return Client(cluster)
    return Client(stack.enter_context(_start(cluster, wanted)))


def _start(cluster: str, wanted: Wanted) -> Cluster:
    if cluster == "local":
        return local_cluster(wanted)
    if cluster == "threads":
        return threads_cluster(wanted)
    raise one_of("cluster", cluster, (*CLUSTERS, "tcp://HOST:PORT"))
