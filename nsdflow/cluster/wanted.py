"""What a connection is asked for, whatever kind of cluster answers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

__all__ = ["Wanted", "free_port"]

DASHBOARD_PORT = 8787


@dataclass(frozen=True)
class Wanted:
    """What a connection was asked for; None means: as much as there is."""

    workers: int | None = None
    threads_per_worker: int = 1
    memory: int | None = None  # bytes a worker
    gpus: int | None = None
    scratch: str | None = None
    dashboard: str | None = "127.0.0.1"

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
