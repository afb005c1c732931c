"""How to get to the dashboard from where the user sits: the lines that are printed when a cluster starts."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nsdflow.cluster.pool_cluster import JobPools
from nsdflow.monitor.events import make_event
from nsdflow.monitor.state import PAGE, has_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client

    from nsdflow.monitor.events import Listener

__all__ = ["announce_dashboard", "announce_pools", "dashboard_links", "links_of"]

#: Where batch systems write the host on which a job was submitted.
SUBMIT_HOSTS = ("SLURM_SUBMIT_HOST", "PBS_O_HOST", "SGE_O_HOST", "LSB_SUB_HOST")


def announce_pools(client: Client, listener: Listener) -> None:
    """Tell a listener which jobs may be asked for, and where they write; nothing where there are no jobs."""
    if isinstance(client.cluster, JobPools):
        for pool in client.cluster.pools.values():
            text = f"{pool.name} pool: at most {pool.maximum} jobs of {pool.queue.name} at once, as there is work"
            listener(make_event("note", text=f"{text}; their output is in {Path(pool.logs).absolute()}"))


def announce_dashboard(client: Client, listener: Listener) -> None:
    """Tell a listener, in a note each, the ways to the dashboard."""
    for way, link in links_of(client).items():
        listener(make_event("note", text=f"dashboard, {way}: {link}"))


def links_of(client: Client) -> dict[str, str]:
    """Ways to the dashboard of a client's scheduler, by name; none if it has no dashboard."""
    environ, site = os.environ, isinstance(client.cluster, JobPools)
    if has_page(client):  # the scheduler is in this process: ask what its server really listens on
        server = client.cluster.scheduler.http_server  # type: ignore[union-attr]
        return dashboard_links(socket.gethostname(), server.port, listens_on=server.address, environ=environ, site=site)
    if client.cluster is not None:
        return {}
    info = client.scheduler_info(n_workers=1)
    port = info["services"].get("dashboard")
    host = urlsplit(info["address"]).hostname or "localhost"
    return {} if port is None else dashboard_links(host, port, listens_on=host, environ=environ, page="status")


def dashboard_links(
    host: str,
    port: int,
    *,
    listens_on: str,
    environ: Mapping[str, str],
    site: bool = False,
    user: str | None = None,
    page: str = PAGE,
) -> dict[str, str]:
    """Ways to a dashboard on ``port`` of ``host``.

    Parameters
    ----------
    listens_on
        The address the dashboard is bound to. Behind the loopback address it can only be reached through a tunnel to
        its own host, or by a proxy that runs there.
    environ
        Environment of the process that hosts the scheduler; says whether it runs in a batch job or under Jupyter.
    site
        Whether this is a machine of a computing site: then the ways that its portals offer are named too.
    """
    user = user or getpass.getuser()
    loopback = listens_on.startswith("127.") or listens_on in ("localhost", "::1")
    links = {"on this machine": f"http://{'127.0.0.1' if loopback else host}:{port}/{page}"}
    gateway = next((environ[name] for name in SUBMIT_HOSTS if name in environ), None)
    jump = f"-J {user}@{gateway} " if gateway and gateway.split(".")[0] != host.split(".")[0] else ""
    links["ssh tunnel"] = (
        f"ssh -N -L {port}:localhost:{port} {jump}{user}@{host}   then open http://localhost:{port}/{page}"
    )
    site = site or gateway is not None
    if "JUPYTERHUB_SERVICE_PREFIX" in environ:
        prefix = environ["JUPYTERHUB_SERVICE_PREFIX"].rstrip("/")
        links["Jupyter"] = f"{prefix}/proxy/{port}/{page} after the address of your JupyterHub"
    elif "JPY_PARENT_PID" in environ or site:
        links["Jupyter"] = f"/proxy/{port}/{page} after the address of a Jupyter on {host} with jupyter-server-proxy"
    if not loopback:
        links["Open OnDemand"] = f"/node/{host}/{port}/{page} after the address of your portal"
    elif site:
        links["Open OnDemand"] = "only with --dashboard 0.0.0.0, which shows it to the whole network without a password"
    return links
