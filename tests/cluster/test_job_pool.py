"""Pools described by jobqueue.yaml and their job scripts, for every queue; nothing is submitted."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import dask
import pytest
import yaml

from nsdflow.cluster.batch.job_pool import job_scripts, margin_s, read_pools
from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS, import_jobqueue
from nsdflow.cluster.batch.sections import read_section, walltime_seconds
from nsdflow.cluster.credentials import temporary_credentials
from nsdflow.cluster.demand import Demand
from nsdflow.errors import ConfigError, PlanError

#: What a site would write; ``-gpu`` says only what differs.
SECTION = {"cores": 8, "memory": "64GiB", "processes": 4, "walltime": "04:00:00", "queue": "normal"}
GPU = {
    "slurm": {"job-extra-directives": ["--gres=gpu:1"], "queue": "gpu"},
    "pbs": {"resource-spec": "select=1:ncpus=8:ngpus=1:mem=64gb", "queue": "gpu"},
    "sge": {"resource-spec": "gpu=1,h_vmem=64G", "queue": "gpu"},
    "lsf": {"job-extra-directives": ['-gpu "num=1"'], "queue": "gpu", "lsf-units": "mb"},
    "htcondor": {"job-extra-directives": {"request_gpus": 1}},
    "moab": {"resource-spec": "nodes=1:ppn=8:gpus=1", "queue": "gpu"},
    "oar": {"resource-spec": "/nodes=1/gpu=1", "queue": "gpu"},
}
EXTRA = {"htcondor": {"disk": "10GB"}, "lsf": {"walltime": "04:00"}, "oar": {"memory-per-core-property-name": "mem"}}


@pytest.fixture(params=sorted(BATCH_SYSTEMS))
def queue(request, tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    section = {**SECTION, **EXTRA.get(request.param, {})}
    if request.param == "htcondor":
        section = {key: value for key, value in section.items() if key not in ("walltime", "queue")}
    with dask.config.set({f"jobqueue.{request.param}": section, f"jobqueue.{request.param}-gpu": GPU[request.param]}):
        yield request.param


def test_every_queue_is_tried():
    assert set(GPU) == set(BATCH_SYSTEMS)


def test_two_sections_make_two_pools(queue):
    cpu, gpu = read_pools(queue, Demand())
    assert (cpu.slots, cpu.workers_per_job, cpu.memory) == ({"CPU": 2}, 4, 16 << 30)
    assert (gpu.slots, gpu.workers_per_job, gpu.memory) == ({"GPU": 1}, 1, 64 << 30)
    assert cpu.workers_of("cpu-3") == ["cpu-3-0", "cpu-3-1", "cpu-3-2", "cpu-3-3"]
    assert gpu.workers_of("gpu-0") == ["gpu-0"]
    assert [cpu.jobs_for({"cpu": tasks, "gpu": 7}) for tasks in (0, 1, 8, 9, 1000)] == [0, 1, 1, 2, 4]
    assert [gpu.jobs_for({"cpu": 7, "gpu": tasks}) for tasks in (0, 1, 3, 1000)] == [0, 1, 3, 4]


def test_the_job_script_says_all_that_a_worker_needs(queue, tmp_path):
    scripts = job_scripts(queue)
    assert set(scripts) == {"cpu", "gpu"}
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing behind
    for pool, resources in (("cpu", "CPU=2"), ("gpu", "GPU=1")):
        script = scripts[pool]
        assert f"export NSDFLOW_POOL={pool}" in script
        assert f"--resources {resources}" in script
        assert "distributed.cli.dask_worker tls://SCHEDULER:PORT" in script
        assert "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT" in script
        if queue != "htcondor":  # it has no walltime
            assert "export NSDFLOW_DEADLINE=$(( $(date +%s) + 14100 ))" in script
            assert "--lifetime $(( NSDFLOW_DEADLINE + 150 - $(date +%s) ))s" in script
        assert "--tls-key KEYS/key.pem" in script
    asks = GPU[queue].get("resource-spec") or next(iter(GPU[queue]["job-extra-directives"]))
    assert asks in scripts["gpu"]
    assert asks not in scripts["cpu"]


#: How the GPU job of each example in the documentation requests its GPU.
ASKS = {
    "slurm": "--gres=gpu:1",
    "pbs": "ngpus=1",
    "sge": "gpu=1",
    "lsf": '-gpu "num=1"',
    "htcondor": "request_gpus = 1",
}


def test_the_examples_of_the_documentation_make_two_pools(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages = [Path(__file__).parents[2] / "docs" / "cluster" / f"{name}.md" for name in ("batch-systems", "sizing")]
    shown = [
        yaml.safe_load(block) for page in pages for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)
    ]
    assert {next(iter(example["jobqueue"])) for example in shown} == set(ASKS)
    for example in shown:
        queue = next(iter(example["jobqueue"]))
        with dask.config.set(example):
            cpu, gpu = read_pools(queue, Demand())
            scripts = job_scripts(queue)
        assert (cpu.slots, cpu.workers_per_job, gpu.slots) == ({"CPU": 1}, 8, {"GPU": 1})
        assert (cpu.memory, gpu.memory) == (4 << 30, 64 << 30)
        assert ASKS[queue] in scripts["gpu"], scripts["gpu"]
        assert ASKS[queue] not in scripts["cpu"]


def test_without_a_gpu_section_cpu_workers_offer_the_gpu_slot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with dask.config.set({"jobqueue.slurm": SECTION}):
        (cpu,) = read_pools("slurm", Demand())
        assert cpu.slots == {"CPU": 2, "GPU": 1}
        assert [cpu.jobs_for({"gpu": tasks}) for tasks in (0, 1, 4, 5, 1000)] == [0, 1, 1, 2, 4]
        assert cpu.jobs_for({"cpu": 9, "gpu": 1}) == cpu.jobs_for({"cpu": 1, "gpu": 5}) == 2
        assert set(job_scripts("slurm")) == {"cpu"}
    with dask.config.set({"jobqueue.slurm": SECTION, "jobqueue.slurm-gpu": GPU["slurm"]}):
        assert [pool.name for pool in read_pools("slurm", Demand(gpus=0))] == ["cpu"]


def test_what_the_caller_wants_limits_the_jobs():
    sections = {"jobqueue.slurm": {**SECTION, "maximum-jobs": 7}, "jobqueue.slurm-gpu": GPU["slurm"]}
    with dask.config.set(sections):
        assert [pool.maximum for pool in read_pools("slurm", Demand())] == [7, 7]
        assert [pool.maximum for pool in read_pools("slurm", Demand(workers=6, gpus=2))] == [2, 2]  # 4 workers a job


def test_threads_become_processes_where_the_section_does_not_say():
    with dask.config.set({"jobqueue.slurm": {"cores": 8, "memory": "64GiB"}}):
        assert read_pools("slurm", Demand())[0].workers_per_job == 8
        assert read_pools("slurm", Demand(threads_per_worker=4))[0].workers_per_job == 2


def test_other_clusters_have_no_job_scripts():
    assert job_scripts("local") == job_scripts("tcp://10.0.0.1:8786") == {}


def test_an_incomplete_section_says_what_to_write():
    with (
        dask.config.set({"jobqueue.slurm": {"queue": "normal"}}),
        pytest.raises(ConfigError, match=r"section slurm: no cores and memory; write .*cores: 8, memory: 32GiB"),
    ):
        read_pools("slurm", Demand())
    assert read_section(BATCH_SYSTEMS["slurm"], "slurm-nosuch") is None


@pytest.mark.parametrize(
    ("queue", "walltime", "seconds"),
    [
        ("slurm", "30", 1800),
        ("slurm", "01:30", 90),
        ("slurm", "04:00:00", 14400),
        ("slurm", "1-12", 129600),
        ("slurm", "1-00:30:15", 88215),
        ("pbs", "90", 90),
        ("pbs", "04:00:00", 14400),
        ("sge", "00:10:00", 600),
        ("lsf", "04:00", 14400),
        ("lsf", "30", 1800),
        ("oar", "2", 7200),
        ("oar", "01:30:00", 5400),
        ("slurm", None, None),
    ],
)
def test_walltimes_are_read_as_their_queue_reads_them(queue, walltime, seconds):
    assert walltime_seconds(walltime, BATCH_SYSTEMS[queue]) == seconds


@pytest.mark.parametrize(("queue", "walltime"), [("slurm", "4h"), ("lsf", "04:00:00"), ("pbs", ""), ("slurm", "x-1")])
def test_what_is_no_walltime_is_refused(queue, walltime):
    with pytest.raises(PlanError, match="is not a walltime; write for example"):
        walltime_seconds(walltime, BATCH_SYSTEMS[queue])


def test_the_margin_is_a_tenth_and_five_minutes_at_most():
    assert [margin_s(walltime) for walltime in (60, 1800, 3600, 86400)] == [6, 180, 300, 300]


def test_the_clocks_run_from_the_start_of_the_job_whatever_its_prologue_takes():
    slow = {**SECTION, "walltime": "00:01:00", "job-script-prologue": ["sleep 2"], "python": "echo"}
    with dask.config.set({"jobqueue.slurm": slow}):
        script = job_scripts("slurm")["cpu"]
    started = time.time()
    printed = subprocess.run(
        ["bash", "-c", f"{script}\necho $NSDFLOW_DEADLINE"], capture_output=True, text=True, check=True
    ).stdout
    assert float(printed.splitlines()[-1]) == pytest.approx(started + 54, abs=1.5)
    (lifetime,) = re.findall(r"--lifetime (\d+)s", printed)
    assert float(lifetime) == pytest.approx(57 - 2, abs=1.5)


def test_credentials_are_for_their_owner_only_and_gone_afterwards(tmp_path):
    with temporary_credentials(tmp_path) as (security, on_disk):
        role = on_disk.get_tls_config_for_role("worker")
        paths = [Path(role[key]) for key in ("ca_file", "cert", "key")]
        assert [path.read_text() for path in paths] == [
            security.get_tls_config_for_role("worker")[key] for key in ("ca_file", "cert", "key")
        ]
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
        assert paths[0].parent.stat().st_mode & 0o777 == 0o700
        with dask.config.set({"jobqueue.slurm": SECTION}):
            script = read_pools("slurm", Demand())[0].job_script(on_disk)
        assert f"--tls-key {role['key']}" in script
        assert "PRIVATE KEY" not in script
        assert "--protocol tls://" in script
    assert not any(path.exists() for path in paths)


def test_importing_dask_jobqueue_leaves_ctrl_c_alone():
    before = signal.getsignal(signal.SIGINT)
    import_jobqueue("dask_jobqueue.slurm", "slurm")
    assert signal.getsignal(signal.SIGINT) is before
