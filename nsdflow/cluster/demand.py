"""Requirements of a caller of :func:`~nsdflow.cluster.connect.connect`, for every kind of cluster."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final

from nsdflow.errors import PlanError

__all__ = ["POOL_TIMES", "Demand", "PoolTimes", "free_port"]

DASHBOARD_PORT: Final = 8787
LOOPBACK_ADDRESS: Final = "127.0.0.1"


@dataclass(frozen=True)
class PoolTimes:
    """Intervals and time limits of pools of batch jobs."""

    poll_s: float = 1.0
    """Time between two checks of a pool."""
    query_s: float = 10.0
    """Time between two queries of the batch system about the same job."""
    query_gone_s: float = 2.0
    """The same for a job whose worker is gone, because work waits for its replacement."""
    vanished_s: float = 20.0
    """Time for a nanny to bring back the worker of a job that still runs."""
    idle_s: float = 30.0
    """Time after which an idle job is released."""
    useful_s: float = 30.0
    """A job whose workers were up for longer was useful; its end does not count against the pool."""
    back_off_s: float = 5.0
    """Time after which a useless job is replaced; doubled with each one in a row."""
    back_off_max_s: float = 300.0
    """Upper limit of that."""
    useless_jobs: int = 5
    """After this many useless jobs in a row the pool gives up."""


POOL_TIMES: Final = PoolTimes()


@dataclass(frozen=True)
class Demand:
    """Requirements of a connection. None means as much as the machine or the sections of ``jobqueue.yaml`` allow."""

    workers: int | None = None
    threads_per_worker: int = 1
    memory: int | None = None
    """Bytes per worker."""
    gpus: int | None = None
    scratch: str | None = None
    dashboard: str | None = LOOPBACK_ADDRESS
    """Address on which the dashboard listens; None: no dashboard."""
    times: PoolTimes = POOL_TIMES

    def check(self) -> None:
        """Raise if no cluster can provide this.

        Raises
        ------
        PlanError
            It asks for less than one worker or thread, or for a dashboard at an address of another machine.
        """
        for what, number, least in (
            ("workers", self.workers, 1),
            ("threads per worker", self.threads_per_worker, 1),
            ("GPUs", self.gpus, 0),
        ):
            if number is not None and number < least:
                raise PlanError(f"cannot start {number} {what}; ask for {least} or more")
        if self.dashboard:
            with socket.socket() as probe:
                try:
                    probe.bind((self.dashboard, 0))
                except OSError as error:
                    raise PlanError(
                        f"the dashboard cannot listen on {self.dashboard} ({error.strerror}); "
                        "give an address of this machine, such as 127.0.0.1"
                    ) from None

    def http(self) -> dict[str, Any]:
        """Options of the scheduler's HTTP server: the dashboard on port 8787 if that is free, else on any port."""
        host = self.dashboard or LOOPBACK_ADDRESS
        port = free_port(host) if self.dashboard else 0
        return {"dashboard": self.dashboard is not None, "dashboard_address": f"{host}:{port}"}


def free_port(host: str, port: int = DASHBOARD_PORT) -> int:
    """``port`` if no process listens there on ``host``, else 0, which means any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
    return port
