"""What a connection is asked for, whatever kind of cluster answers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final

from nsdflow.errors import PlanError

__all__ = ["PATIENCE", "Patience", "Wanted", "free_port"]

DASHBOARD_PORT = 8787


@dataclass(frozen=True)
class Patience:
    """How long the keeper of pools of batch jobs waits for what, in seconds."""

    look: float = 1.0
    """Between two looks at a pool."""
    ask: float = 10.0
    """Between two questions to the queue about the same job."""
    ask_of_gone: float = 2.0
    """The same for a job whose worker is gone: work waits for its replacement."""
    vanished: float = 20.0
    """For a worker that is gone from a job that still runs; its nanny may bring it back."""
    idle: float = 30.0
    """Before a job without work is released."""
    useful: float = 30.0
    """A job whose workers were up for so long was of use; its end is not held against the pool."""
    back_off: float = 5.0
    """Before a job is replaced that was of no use; doubled with each in a row."""
    back_off_at_most: float = 300.0
    useless: int = 5
    """So many useless jobs in a row, and the pool gives up."""


PATIENCE: Final = Patience()


@dataclass(frozen=True)
class Wanted:
    """What a connection was asked for; None means: as much as there is."""

    workers: int | None = None
    threads_per_worker: int = 1
    memory: int | None = None  # bytes a worker
    gpus: int | None = None
    scratch: str | None = None
    dashboard: str | None = "127.0.0.1"
    patience: Patience = PATIENCE

    def check(self) -> None:
        """Refuse what no cluster can be.

        Raises
        ------
        PlanError
            Less than one worker or thread, or a dashboard at an address that is not this machine's.
        """
        for what, number, least in (
            ("workers", self.workers, 1),
            ("threads per worker", self.threads_per_worker, 1),
            ("GPUs", self.gpus, 0),
        ):
            if number is not None and number < least:
                raise PlanError(f"{number} {what} cannot be had; ask for {least} or more")
        if self.dashboard:
            with socket.socket() as probe:
                try:
                    probe.bind((self.dashboard, 0))
                except OSError as error:
                    raise PlanError(
                        f"the dashboard cannot listen on {self.dashboard} ({error.strerror}); "
                        "give an address of this machine, such as 127.0.0.1"
                    ) from error

    def http(self) -> dict[str, Any]:
        """How the scheduler serves HTTP: the dashboard on port 8787 if that is free, else on any port."""
        host = self.dashboard or "127.0.0.1"
        port = free_port(host) if self.dashboard else 0
        return {"dashboard": self.dashboard is not None, "dashboard_address": f"{host}:{port}"}


def free_port(host: str, port: int = DASHBOARD_PORT) -> int:
    """``port`` if nobody listens there on ``host``, else 0 (any free one)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
    return port
