"""Clients of every local kind: their resources and sockets, and that nothing is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import dask
import psutil
import pytest
from distributed import LocalCluster

from nsdflow.cluster.connect import connect
from nsdflow.cluster.demand import Demand, free_port
from nsdflow.cluster.local import worker_specs
from nsdflow.cluster.settings import LONG_TASKS, long_task_settings
from nsdflow.errors import PlanError, SelectionError


def listening() -> list[tuple[str, int]]:
    """Every socket on which this process and its children listen, as the operating system lists them."""
    here = psutil.Process()
    return [
        (connection.laddr.ip, connection.laddr.port)
        for process in (here, *here.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


def test_local_gives_workers_with_slots_on_the_loopback_interface():
    with connect("local", workers=2, memory="1GiB", dashboard=None) as client:
        workers = client.scheduler_info()["workers"].values()
        assert {worker["name"] for worker in workers} == {"cpu-0", "cpu-1"}
        assert all(worker["resources"] == {"CPU": 1, "GPU": 1} for worker in workers)
        assert all(worker["memory_limit"] == 2**30 for worker in workers)
        assert client.submit(sum, [1, 2], resources={"GPU": 1}).result() == 3


@pytest.mark.parametrize("cluster", ["local", "threads"])
@pytest.mark.parametrize("dashboard", ["127.0.0.1", None])
def test_every_socket_is_on_the_loopback_interface(cluster, dashboard):
    before = set(listening())
    with connect(cluster, workers=1, memory="1GiB", dashboard=dashboard) as client:
        client.submit(sum, [1, 2]).result()
        opened = set(listening()) - before
    # HTTP ports of scheduler and worker and, between processes, the ports of scheduler, worker and nanny
    assert len(opened) >= {"local": 5, "threads": 2}[cluster]
    assert {host for host, _ in opened} == {"127.0.0.1"}


def test_the_dashboard_listens_where_it_is_told():
    """And nothing else does."""
    before = set(listening())
    with connect("threads", dashboard="0.0.0.0"):
        opened = set(listening()) - before
    assert sorted(host for host, _ in opened).count("0.0.0.0") == 1
    assert {host for host, _ in opened} == {"127.0.0.1", "0.0.0.0"}


def test_an_address_is_joined_and_left_running():
    options = {
        "n_workers": 1,
        "processes": False,
        "dashboard_address": "127.0.0.1:0",
        "protocol": "tcp://",
        "host": "127.0.0.1",
    }
    with LocalCluster(**options) as cluster:
        for _ in range(2):
            with connect(cluster.scheduler_address) as client:
                assert client.submit(sum, [1, 2]).result() == 3


def test_an_unknown_cluster_names_those_there_are():
    with pytest.raises(SelectionError, match=r"'locl'; available: local.*did you mean 'local'"), connect("locl"):
        pass


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"workers": 0}, "cannot start 0 workers; ask for 1 or more"),
        ({"workers": -3}, "cannot start -3 workers"),
        ({"threads_per_worker": 0}, "cannot start 0 threads per worker"),
        ({"gpus": -1}, "cannot start -1 GPUs; ask for 0 or more"),
        ({"dashboard": "nosuchhost.invalid"}, "the dashboard cannot listen on nosuchhost.invalid"),
        ({"dashboard": "192.0.2.1"}, "give an address of this machine, such as 127.0.0.1"),
    ],
)
def test_what_no_cluster_can_be_is_refused_at_once(asked, says):
    with pytest.raises(PlanError, match=says), connect("local", **asked):
        pass


def test_gpus_get_a_worker_each_and_the_rest_of_the_cores_the_cpu_pool():
    specs = worker_specs(Demand(workers=3, threads_per_worker=2, memory=10), gpus=("2", "GPU-ab"))
    options = {name: spec["options"] for name, spec in specs.items()}
    assert list(specs) == ["gpu-0", "gpu-1", "cpu-0", "cpu-1", "cpu-2"]
    assert options["gpu-1"]["env"] == {"CUDA_VISIBLE_DEVICES": "GPU-ab"}
    assert options["gpu-1"]["resources"] == {"GPU": 1}
    assert options["cpu-0"]["resources"] == {"CPU": 2}


def test_settings_hold_while_connected_and_leave_the_users_own_alone():
    ttl = "distributed.scheduler.worker-ttl"
    before = dask.config.get(ttl)
    with connect("threads", dashboard=None):
        assert dask.config.get(ttl) == LONG_TASKS[ttl] != before
        assert long_task_settings() == LONG_TASKS  # as job scripts, which are written now, have to hold them
    assert dask.config.get(ttl) == before
    with dask.config.set({ttl: "7 minutes"}):
        assert ttl not in long_task_settings()
        assert len(long_task_settings()) == len(LONG_TASKS) - 1


def test_the_profiler_looks_once_per_second():
    on = {"distributed.worker.profile.enabled": True}  # Dask's default
    with dask.config.set(on), connect("threads", dashboard=None) as client:
        intervals = client.run(lambda dask_worker: dask_worker.periodic_callbacks["profile"].callback_time)
    assert list(intervals.values()) == [1000]


def test_a_process_keeps_the_memory_that_it_freed():
    """16 MiB that were freed are the same pages again, where glibc would return them and fault in new ones."""
    code = (
        "import resource, numpy\n"
        "from nsdflow.cluster.settings import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): numpy.ones(1 << 21)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "keep_freed_memory(); faults(); print(faults())"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 2000  # 20 x 4,096 pages otherwise


def test_the_dashboard_takes_another_port_when_its_own_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert free_port("127.0.0.1", taken.getsockname()[1]) == 0
    with connect("threads") as client:
        assert client.cluster.scheduler.http_server.address == "127.0.0.1"


def test_importing_the_cluster_layer_leaves_signals_and_settings_alone():
    code = (
        "import signal, dask; before = signal.getsignal(signal.SIGINT)\n"
        "import nsdflow.cluster.connect, nsdflow.monitor.events, nsdflow.cluster.deadline, nsdflow.monitor.terminal\n"
        "assert signal.getsignal(signal.SIGINT) is before\n"
        "assert dask.config.get('distributed.scheduler.worker-ttl') == '5 minutes'\n"
        "import sys; assert 'dask_jobqueue' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
