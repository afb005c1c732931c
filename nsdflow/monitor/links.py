"""Links by which users reach the dashboard, printed when a cluster starts."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nsdflow.monitor.state import PAGE, has_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distributed import Client

__all__ = ["dashboard_links", "links_of"]


def links_of(client: Client, *, submit_hosts: Sequence[str] = (), site: bool = False) -> dict[str, str]:
    """Links to the dashboard of a client's scheduler, or commands, by kind of access; empty without dashboard.

    Parameters
    ----------
    submit_hosts : sequence of str
        As for :func:`dashboard_links`.
    site : bool
        As for :func:`dashboard_links`.
    """
    if has_page(client):  # the scheduler is in this process: ask its server for the port it really has
        server = client.cluster.scheduler.http_server  # type: ignore[union-attr]
        return dashboard_links(
            socket.gethostname(), server.port, listens_on=server.address, submit_hosts=submit_hosts, site=site
        )
    if client.cluster is not None:
        return {}
    info = client.scheduler_info(n_workers=1)
    port = info["services"].get("dashboard")
    host = urlsplit(info["address"]).hostname or "localhost"
    if port is None:
        return {}
    return dashboard_links(host, port, listens_on=host, submit_hosts=submit_hosts, page="status")


def dashboard_links(
    host: str,
    port: int,
    *,
    listens_on: str,
    environ: Mapping[str, str] = os.environ,
    submit_hosts: Sequence[str] = (),
    site: bool = False,
    user: str | None = None,
    page: str = PAGE,
) -> dict[str, str]:
    """Links to a dashboard, or commands, by kind of access.

    Parameters
    ----------
    host, port : str, int
        Where the scheduler runs and its dashboard listens.
    listens_on : str
        The address the dashboard is bound to. Behind the loopback address only a tunnel to that host, or a proxy on
        it, reaches the dashboard.
    environ : mapping of str
        Environment of the scheduler's process; shows whether it runs in a batch job or under Jupyter.
    submit_hosts : sequence of str
        Variables in which batch systems write the host that submitted a job.
    site : bool
        Whether this machine belongs to a computing site. Then the links of its web portals are included.
    user : str, optional
        User name for ssh; default: the current user.
    """
    user = user or getpass.getuser()
    loopback = listens_on.startswith("127.") or listens_on in ("localhost", "::1")
    links = {"on this machine": f"http://{'127.0.0.1' if loopback else host}:{port}/{page}"}
    gateway = next((environ[name] for name in submit_hosts if name in environ), None)
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
