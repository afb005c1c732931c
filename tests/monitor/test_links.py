"""The printed links to the dashboard, for each place in which a driver may run."""

from __future__ import annotations

import pytest

from nsdflow.cluster.batch.jobqueue import SUBMIT_HOSTS
from nsdflow.cluster.connect import announce, connect
from nsdflow.monitor.links import dashboard_links, links_of


def links(host="node7", listens_on="127.0.0.1", **environ):
    return dashboard_links(host, 8787, listens_on=listens_on, environ=environ, submit_hosts=SUBMIT_HOSTS, user="ada")


def test_on_a_login_node_one_hop_is_enough():
    ways = links("login1", SLURM_SUBMIT_HOST="login1.site.org")
    assert ways["on this machine"] == "http://127.0.0.1:8787/nsdflow"
    assert ways["ssh tunnel"] == "ssh -N -L 8787:localhost:8787 ada@login1   then open http://localhost:8787/nsdflow"


@pytest.mark.parametrize("name", ["SLURM_SUBMIT_HOST", "PBS_O_HOST", "LSB_SUB_HOST"])
def test_in_a_batch_job_the_tunnel_goes_through_the_login_node(name):
    tunnel = links(**{name: "login1"})["ssh tunnel"]
    assert tunnel.startswith("ssh -N -L 8787:localhost:8787 -J ada@login1 ada@node7 ")


def test_under_jupyter_its_proxy_is_a_way():
    assert links(JUPYTERHUB_SERVICE_PREFIX="/user/ada/")["Jupyter"].startswith("/user/ada/proxy/8787/nsdflow ")
    assert links(JPY_PARENT_PID="1")["Jupyter"].startswith("/proxy/8787/nsdflow ")


def test_open_ondemand_needs_a_dashboard_that_other_machines_reach():
    opened = links(listens_on="0.0.0.0")
    assert opened["Open OnDemand"].startswith("/node/node7/8787/nsdflow ")
    assert opened["on this machine"] == "http://node7:8787/nsdflow"


def test_a_site_names_the_ways_of_its_portals_too_and_a_laptop_does_not():
    assert set(links()) == {"on this machine", "ssh tunnel"}
    at_site = dashboard_links("login1", 8787, listens_on="127.0.0.1", environ={}, user="ada", site=True)
    assert set(at_site) == {"on this machine", "ssh tunnel", "Jupyter", "Open OnDemand"}
    assert "login1 with jupyter-server-proxy" in at_site["Jupyter"]
    assert "--dashboard 0.0.0.0" in at_site["Open OnDemand"]


def test_a_client_knows_its_own(client):
    assert links_of(client) == {}  # connected without a dashboard
    with connect("threads") as other:
        port = other.cluster.scheduler.http_server.port
        assert links_of(other)["on this machine"] == f"http://127.0.0.1:{port}/nsdflow"
        heard = []
        announce(other, heard.append)
        assert [event["kind"] for event in heard] == ["note", "note"]
        assert "ssh -N" in heard[1]["text"]
