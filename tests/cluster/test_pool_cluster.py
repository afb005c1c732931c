"""Life cycle of pools, with a queue of three shell scripts; tests/slurm uses a real one."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import dask
import psutil
import pytest

from nsdflow.cluster.connect import connect
from nsdflow.cluster.demand import PoolTimes
from nsdflow.cluster.feed import Feed, gpu_workers, worker_memory
from nsdflow.errors import PlanError, RunError
from nsdflow.monitor.events import subscribe

FAST = PoolTimes(
    poll_s=0.1,
    query_s=0.3,
    vanished_s=5.0,
    idle_s=0.5,
    useful_s=1.0,
    back_off_s=0.1,
    back_off_max_s=0.5,
    useless_jobs=3,
)

#: SLURM's commands as far as nsdflow uses them: a job is a process group, its number that of its files.
COMMANDS = {
    "sbatch": """
        echo >>"$JOBS/asked"
        sleep "${SLOW:-0}"
        number=$(( $(ls "$JOBS" | grep -c pid) + 1 ))
        cp "$1" "$JOBS/$number.sh"
        grep -q 'SBATCH -p nosuchqueue' "$1" && { echo "sbatch: error: invalid partition specified" >&2; exit 1; }
        SLURM_JOB_ID=$number setsid bash "$JOBS/$number.sh" >nsdflow-jobs/job-$number.out 2>&1 </dev/null &
        echo $! >"$JOBS/$number.pid"
        echo "Submitted batch job $number"
    """,
    "squeue": """
        shift 4
        kill -0 "$(cat "$JOBS/$1.pid")" 2>/dev/null && echo "RUNNING None" && exit
        echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1
    """,
    "scancel": 'kill -9 -- "-$(cat "$JOBS/$1.pid")"',
}


@pytest.fixture
def jobs(tmp_path, monkeypatch) -> Path:
    """A queue on this machine; gives the folder in which it keeps its jobs."""
    folder, commands = tmp_path / "jobs", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    for name, script in COMMANDS.items():
        (commands / name).write_text(f"#!/bin/bash\n{script}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(folder))
    monkeypatch.chdir(tmp_path)
    section = {"cores": 1, "memory": "1GiB", "walltime": "01:00:00", "maximum-jobs": 1}
    with dask.config.set({"jobqueue.slurm": section, "jobqueue.slurm-gpu": {"job-extra-directives": ["--gres=gpu:1"]}}):
        yield folder


def running(jobs: Path) -> list[int]:
    """Process groups of the jobs that run."""
    pids = [int(path.read_text()) for path in jobs.glob("*.pid")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def wait_until(what, seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)


def job_number(path: str) -> str:
    """Append the number of this job to a file; the first job does not return."""
    with Path(path).open("a") as file:
        file.write(f"{os.environ['SLURM_JOB_ID']} {os.environ['NSDFLOW_POOL']}\n")
    if len(Path(path).read_text().splitlines()) == 1:
        time.sleep(60)
    return os.environ["SLURM_JOB_ID"]


def feed_one(client, pool: str, function, *arguments, between=lambda: None):
    """Run one task on a pool and return its result."""
    feed, submitted = Feed(client), False
    try:
        while True:
            between()
            if not submitted and feed.room(pool) > 0:
                feed.submit(pool, function, *arguments, key=f"{function.__name__}-{pool}")
                submitted = True
            for future in feed.done({pool: int(not submitted)}):
                return future.result()
    finally:
        feed.close()


def test_jobs_come_with_work_are_replaced_when_they_die_and_go_when_it_is_done(jobs, tmp_path):
    path, events, killed = tmp_path / "ran", [], []

    def kill_first():
        if path.exists() and not killed:
            killed.extend(running(jobs))
            os.killpg(killed[0], signal.SIGKILL)

    with connect("slurm", dashboard=None, times=FAST) as client, subscribe(client, events.append):
        assert client.scheduler_info()["address"].startswith("tls://")
        assert worker_memory(client) == 1 << 30  # known before any worker is up
        assert running(jobs) == []  # no job is requested before there is work
        assert feed_one(client, "gpu", job_number, str(path), between=kill_first) == "2"
        assert path.read_text() == "1 gpu\n2 gpu\n"
        wait_until(lambda: running(jobs) == [])
        wait_until(lambda: [event["state"] for event in events][-1] == "released")
    states = [event["state"] for event in events if event["state"] != "waiting"]
    assert states == ["submitted", "up", "lost", "submitted", "up", "released"]
    assert list(Path("nsdflow-jobs").glob("tls-*")) == []
    script = (jobs / "1.sh").read_text()
    assert "#SBATCH --gres=gpu:1" in script
    assert "export DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT='60s'" in script


def test_without_a_pool_of_gpus_training_runs_on_cpu_workers(jobs):
    with connect("slurm", dashboard=None, gpus=0, times=FAST) as client:
        assert gpu_workers(client) == 1
        assert feed_one(client, "gpu", os.getenv, "NSDFLOW_POOL") == "cpu"
        assert feed_one(client, "cpu", os.getenv, "NSDFLOW_POOL") == "cpu"


def test_a_job_that_is_being_submitted_when_the_connection_closes_does_not_stay(jobs, monkeypatch):
    monkeypatch.setenv("SLOW", "1")
    with connect("slurm", dashboard=None, times=FAST) as client:
        client.cluster.request({"gpu": 1})
        wait_until((jobs / "asked").exists)
    assert [path.name for path in jobs.glob("*.pid")] == ["1.pid"]  # it was submitted nevertheless
    wait_until(lambda: running(jobs) == [], seconds=10)


def test_a_pool_whose_jobs_never_work_gives_up_and_says_why(jobs):
    broken = {"job-script-prologue": ["echo module: command not found", "exit 1"]}
    with (
        dask.config.set({"jobqueue.slurm-gpu": broken}),
        connect("slurm", dashboard=None, times=FAST) as client,
        pytest.raises(RunError, match=r"the gpu pool gave up: 3 jobs in a row .*: module: command not found; check it"),
    ):
        feed_one(client, "gpu", os.getpid)
    assert len(list(jobs.glob("*.sh"))) == FAST.useless_jobs


def test_what_the_queue_refuses_is_said_in_its_words(jobs):
    with (
        dask.config.set({"jobqueue.slurm-gpu": {"queue": "nosuchqueue"}}),
        connect("slurm", dashboard=None, times=FAST) as client,
        pytest.raises(RunError, match="could not be submitted: sbatch: error: invalid partition"),
    ):
        feed_one(client, "gpu", os.getpid)


def test_a_keeper_that_fails_does_not_leave_the_driver_waiting(jobs, monkeypatch):
    monkeypatch.setattr("nsdflow.cluster.batch.pool_cluster.still_queued", lambda *_: 1 / 0)
    with (
        dask.config.set({"jobqueue.slurm-gpu": {"job-script-prologue": ["sleep 60"]}}),
        connect("slurm", dashboard=None, times=FAST) as client,
        pytest.raises(RunError, match="the cpu pool cannot be maintained: ZeroDivisionError"),
    ):
        feed_one(client, "gpu", os.getpid)


def test_a_machine_without_the_queue_says_so():
    with pytest.raises(PlanError, match=r"'bsub' is not installed on this machine.*--cluster local"), connect("lsf"):
        pass


def listening(pids) -> set[tuple[str, int]]:
    """Addresses on which processes and their children listen, as the operating system lists them."""
    found = set()
    for pid in pids:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            found |= {
                (connection.laddr.ip, connection.laddr.port)
                for connection in one.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
    return found


def test_every_socket_of_jobs_and_driver_is_on_loopback_or_under_tls(jobs):
    before = listening([os.getpid()])
    with connect("slurm", times=FAST) as client:
        client.cluster.request({"cpu": 1})
        wait_until(lambda: len(client.scheduler_info()["workers"]) == 1)
        info = client.scheduler_info()
        (worker,) = info["workers"].values()
        (address,) = info["workers"]
        opened = listening(running(jobs)) | listening([os.getpid()]) - before
        encrypted = [info["address"], address, worker["nanny"]]
        assert all(one.startswith("tls://") for one in encrypted)
        ports = {int(one.rpartition(":")[2]) for one in encrypted}
        assert len(opened) >= 5  # these three, and the HTTP ports of scheduler and worker
        elsewhere = {(host, port) for host, port in opened if host != "127.0.0.1"}
        assert {port for _, port in elsewhere} <= ports
        for host, port in elsewhere:  # a program without the key gets no further than the handshake
            reached = urlsplit(info["address"]).hostname if host in ("::", "0.0.0.0") else host
            with socket.create_connection((reached, port)) as plain:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with suppress(ssl.SSLError, ConnectionError), context.wrap_socket(plain) as stranger:
                    stranger.sendall(b"x" * 8)
                    assert stranger.recv(1) == b"", "it answers"
