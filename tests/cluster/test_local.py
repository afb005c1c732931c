"""Resources of this machine, or of a job's allocation on it, for a local cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from dask.system import CPU_COUNT

from nsdflow.cluster.connect import capacity, connect
from nsdflow.cluster.demand import Demand
from nsdflow.cluster.local import available_cores, available_memory, visible_gpus, worker_specs
from nsdflow.errors import PlanError, SelectionError


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("0,3", ("0", "3")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("none", ()),
        ("GPU-1a", ("GPU-1a",)),
        ("MIG-6a1f", ("MIG-6a1f",)),
        (" 1 , 2", ("1", "2")),
        ("0,-1,1", ("0",)),  # CUDA stops at an id that names no GPU
        ("-2,0", ()),
        ("1,1", ()),  # and sees none where one is named twice
    ],
)
def test_visible_gpus_are_those_of_the_allocation(monkeypatch, value, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    ("environ", "cores"),
    [
        ({}, CPU_COUNT),
        ({"SLURM_CPUS_PER_TASK": "1"}, CPU_COUNT),  # left over from a job that is not this one
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "64"}, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1"}, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4096"}, CPU_COUNT),
        ({"PBS_JOBID": "7.site", "NCPUS": "1"}, 1),
        ({"JOB_ID": "7", "NSLOTS": "1"}, 1),
        ({"LSB_JOBID": "7", "LSB_DJOB_NUMPROC": "1"}, 1),
    ],
)
def test_cores_are_those_of_the_allocation(environ, cores, tmp_path):
    assert available_cores(environ, tmp_path) == cores


@pytest.mark.parametrize(
    ("environ", "gibibytes"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "1024"}, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_PER_TASK": "1"}, 0.5),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "256", "SLURM_CPUS_ON_NODE": "4"}, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_GPU": "256", "SLURM_GPUS_ON_NODE": "2"}, 0.5),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_GPU": "256"}, 0.25),
    ],
)
def test_memory_is_that_of_the_allocation(environ, gibibytes, tmp_path):
    assert available_memory(environ, tmp_path) == gibibytes * 2**30
    assert available_memory({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "0"}, tmp_path) == available_memory(
        {}, tmp_path
    )


@pytest.fixture
def own_group(tmp_path: Path) -> Path:
    """A mount of control groups of version 2 with the group of this process."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    named = [line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == ""]
    if not named:
        pytest.skip("this machine has no control groups of version 2")
    group = tmp_path / named[0].strip("/") if named[0] != "/" else tmp_path
    group.mkdir(parents=True, exist_ok=True)
    return group


def test_limits_of_the_control_group_and_of_those_above_it_count(own_group, tmp_path):
    (own_group / "memory.max").write_text("1073741824\n")
    (own_group / "cpu.max").write_text("100000 100000\n")
    (tmp_path.parent / "memory.max").write_text("5\n")  # not of a group
    assert available_memory({}, tmp_path) == 2**30
    assert available_cores({}, tmp_path) == 1
    (own_group / "memory.max").write_text("max\n")
    (own_group / "cpu.max").write_text("max 100000\n")
    assert available_memory({}, tmp_path) == available_memory({}, tmp_path / "nothing")
    assert available_cores({}, tmp_path) == CPU_COUNT


@pytest.mark.parametrize("path", ["/slurm/uid_7/job_7", "/docker/of/the/host"])
def test_limits_of_control_groups_of_version_1(path, tmp_path, monkeypatch):
    """A container sees its group as the root of the mount, under the path that the host has for it."""
    (tmp_path / "own").write_text(f"5:cpu,cpuacct:{path}\n4:memory:{path}\n1:name=systemd:/\n0::/\n")
    monkeypatch.setattr("nsdflow.cluster.local.OWN_GROUPS", tmp_path / "own")
    mount = tmp_path / "mount"
    limits = {"memory/memory.limit_in_bytes": "1073741824\n", "cpu/cpu.cfs_quota_us": "150000\n"}
    for file, text in {**limits, "cpu/cpu.cfs_period_us": "100000\n"}.items():
        controller, _, name = file.partition("/")
        group = mount / controller / path.strip("/") if "slurm" in path else mount / controller
        group.mkdir(parents=True, exist_ok=True)
        (group / name).write_text(text)
    assert available_memory({}, mount) == 2**30
    assert available_cores({}, mount) == 1
    for file in mount.rglob("cpu.cfs_quota_us"):
        file.write_text("-1\n")
    assert available_cores({}, mount) == CPU_COUNT


def test_workers_fit_into_the_allocation(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    for name, value in {"JOB_ID": "7", "CPUS_PER_TASK": "1", "MEM_PER_NODE": "2048"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    specs = worker_specs(Demand(), visible_gpus())
    assert list(specs) == ["cpu-0"]
    assert specs["cpu-0"]["options"]["memory_limit"] <= 2 << 30
    assert capacity("local").memory == specs["cpu-0"]["options"]["memory_limit"]


def test_the_capacity_of_each_kind_of_cluster_is_known_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = {"cores": 4, "memory": "16GiB", "maximum-jobs": 3}
    with dask.config.set({"jobqueue.slurm": section, "jobqueue.slurm-gpu": {"memory": "64GiB"}}):
        found = capacity("slurm")
    assert (found.memory, found.gpu_workers) == (4 << 30, 3)
    assert capacity("threads", memory="2GiB").memory == 2 << 30
    assert capacity("local", workers=2, memory="1GiB").memory == 1 << 30
    assert capacity("tcp://10.0.0.1:8786").memory is None
    with pytest.raises(SelectionError, match="did you mean 'slurm'"):
        capacity("slrum")
    with pytest.raises(PlanError, match="'many' is not a memory size; write for example 8GiB"):
        capacity("local", memory="many")


def test_required_encryption_is_kept(tmp_path):
    with dask.config.set({"distributed.comm.require-encryption": True}):
        for cluster, scheme in (("local", "tls://127.0.0.1:"), ("threads", "inproc://")):
            with connect(cluster, workers=1, memory="1GiB", dashboard=None) as client:
                assert client.scheduler_info()["address"].startswith(scheme)
                assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("/proc/nowhere", "cannot be used"),
        (7, "temporary-directory in Dask's configuration is 7; write the path of a folder"),
    ],
)
def test_a_temporary_directory_that_cannot_be_is_one_line(folder, says):
    with (
        dask.config.set({"temporary-directory": folder}),
        pytest.raises(PlanError, match=says),
        connect("threads", dashboard=None),
    ):
        pass


def test_what_dask_cannot_read_in_its_configuration_is_one_line(monkeypatch):
    says = "--cluster threads does not start .*; check Dask's configuration in"
    with dask.config.set(distributed=3), pytest.raises(PlanError, match=says), connect("threads", dashboard=None):
        pass

    def fails(demand: Demand) -> None:
        """Dask does this for a walltime in words, or a missing module."""
        raise RuntimeError("Cluster failed to start: ...") from KeyError("Invalid time unit: soon.\nValid: s, ms")

    monkeypatch.setattr("nsdflow.cluster.connect.threads_cluster", fails)
    with pytest.raises(PlanError, match="Invalid time unit: soon") as error, connect("threads", dashboard=None):
        pass
    assert "\n" not in str(error.value)


def test_a_temporary_directory_is_made_and_used(tmp_path):
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "new" / "spill")}),
        connect("local", workers=1, memory="1GiB", dashboard=None) as client,
    ):
        (local,) = client.run(lambda dask_worker: dask_worker.local_directory).values()
        assert Path(local).is_relative_to(tmp_path / "new" / "spill")


def test_the_home_folder_in_folders_for_spilling(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for number, scratch in enumerate([None, "~/given"]):
        with (
            dask.config.set({"temporary-directory": "~/configured"}),
            connect("threads", scratch=scratch, dashboard=None) as client,
        ):
            (local,) = client.run(lambda dask_worker: dask_worker.local_directory).values()
        assert Path(local).is_relative_to(tmp_path / ("configured", "given")[number])
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("text", ["jobqueue: {slurm: [", "- a list", "\tx: 1"])
def test_a_dask_file_that_is_no_yaml_is_one_line_and_no_matter_for_the_version(text, tmp_path):
    (tmp_path / "jobqueue.yaml").write_text(text)
    environment = {**os.environ, "DASK_CONFIG": str(tmp_path)}
    nsdflow = str(Path(sys.executable).with_name("nsdflow"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([nsdflow, *words], capture_output=True, text=True, env=environment, check=False)

    for words in (("--version",), ("--help",), ("run", "--help")):
        assert run(*words).returncode == 0
    failed = run("doctor", "--cluster", "threads")
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert "jobqueue.yaml" in failed.stderr
    assert failed.stderr.count("\n") == 1
