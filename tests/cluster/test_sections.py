"""Sections of jobqueue.yaml are used, or refused with their corrections; all mistakes are reported at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import dask
import pytest
import yaml

from nsdflow.cluster.batch.job_pool import job_scripts, read_pools
from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS, import_jobqueue
from nsdflow.cluster.batch.sections import RENAMED, gpu_section, read_section
from nsdflow.cluster.connect import connect
from nsdflow.cluster.demand import Demand
from nsdflow.errors import ConfigError, PlanError

COMPLETE = "cores: 8, memory: 64GiB"
#: Keys that some batch systems require.
NEEDED = {"htcondor": ", disk: 10GB", "lsf": ", lsf-units: mb", "oar": ", memory-per-core-property-name: mem"}


def settings(text: str):
    """Dask's configuration with this text as jobqueue.yaml."""
    return dask.config.set({f"jobqueue.{key}": value for key, value in yaml.safe_load(text)["jobqueue"].items()})


def refused(text: str, queue: str = "slurm") -> str:
    with settings(text), pytest.raises(ConfigError) as caught:
        read_pools(queue, Demand())
    return str(caught.value)


@pytest.mark.parametrize("queue", sorted(BATCH_SYSTEMS))
@pytest.mark.parametrize(
    ("old", "value"), [("env-extra", "[module load x]"), ("env_extra", "module load x"), ("extra", "[--preload x]")]
)
def test_old_keys_are_in_the_job_script_of_every_batch_system(queue, old, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    needed = NEEDED.get(queue, "")
    with settings(f"jobqueue: {{{queue}: {{{COMPLETE}{needed}, {old}: {value}}}}}"):
        script = job_scripts(queue)["cpu"]
    assert yaml.safe_load(value)[0] in script if value.startswith("[") else value in script
    assert "NSDFLOW_POOL=cpu" in script


def test_old_keys_of_the_users_file_survive_the_defaults(tmp_path):
    """dask-jobqueue merges its defaults, with every new key, into the sections of the file."""
    (tmp_path / "jobqueue.yaml").write_text(f"jobqueue: {{slurm: {{{COMPLETE}, env-extra: [module load x]}}}}")
    code = "from nsdflow.cluster.batch.job_pool import job_scripts; print(job_scripts('slurm')['cpu'])"
    environment = {**os.environ, "DASK_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert "\nmodule load x\n" in done.stdout
    assert done.stderr == ""


def test_every_key_that_dask_jobqueue_renamed_is_carried_over():
    source = Path(import_jobqueue("dask_jobqueue.core", "core").__file__).read_text()
    renamed = dict(re.findall(r'"(\w+) has been renamed to (\w+)\.', source))
    assert {old.replace("_", "-"): new.replace("_", "-") for old, new in renamed.items()} == RENAMED


@pytest.mark.parametrize("text", ["jobqueue: {pbs: {cores: 2}}", "jobqueue: {slurm: }"])
def test_no_section_at_all_is_an_error_with_the_lines_to_write(text):
    assert "no cores and memory; write for example" in refused(text)


def test_a_misspelt_section_is_named():
    text = refused(f"jobqueue: {{slrum: {{{COMPLETE}}}, slurm-gpu: {{cores: 2}}}}")
    assert "no cores and memory" in text
    assert "section slrum: unknown; write slurm:" in text
    assert "section slurm-gpu" not in text


def test_old_and_new_name_together_are_refused_by_name():
    text = refused(f"jobqueue: {{slurm: {{{COMPLETE}, env-extra: [a], job-script-prologue: [b]}}}}")
    assert "env-extra: is an old name of job-script-prologue, which is also set" in text


def test_a_gpu_section_replaces_what_the_cpu_section_says_under_the_old_name():
    with settings(f"jobqueue: {{slurm: {{{COMPLETE}, env-extra: [old]}}, slurm-gpu: {{job-script-prologue: [new]}}}}"):
        cpu, gpu = read_pools("slurm", Demand())
    assert (cpu.settings["job-script-prologue"][-1], gpu.settings["job-script-prologue"][-1]) == ("old", "new")


def test_a_single_text_is_a_list_of_its_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"""
jobqueue:
  slurm:
    {COMPLETE.replace(", ", chr(10) + "    ")}
    job-extra-directives: --gres=gpu:1
    worker-extra-args: --preload x
    job-directives-skip: --mem
    job-script-prologue: |
      module load x
      echo ready
"""
    with settings(text):
        script = job_scripts("slurm")["cpu"]
    assert "#SBATCH --gres=gpu:1\n" in script
    assert "\nmodule load x\necho ready\n" in script
    assert "--mem=" not in script
    assert "--preload x" in script


@pytest.mark.parametrize(
    ("queue", "written", "meant"),
    [
        ("slurm", "12:00:00", "'12:00:00'"),
        ("slurm", "1:30:00", "'01:30:00'"),
        ("pbs", "30:00", "'00:30:00'"),
        ("lsf", "12:00", "'12:00'"),
        ("sge", "3600", "'01:00:00'"),
        ("oar", "1.5", "'00:00:01'"),
    ],
)
def test_walltimes_without_quotes_are_refused_with_the_line_in_quotes(queue, written, meant):
    needed = NEEDED.get(queue, "")
    text = refused(f"jobqueue: {{{queue}: {{{COMPLETE}{needed}, walltime: {written}}}}}", queue)
    assert f"write it in quotes, walltime: {meant}" in text
    assert str(yaml.safe_load(written)) in text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("memory: 32", "memory: 32 is not a memory size with its unit; write for example memory: 32GiB"),
        ("memory: 0", "write for example memory: 32GiB"),
        ("memory: lots", "'lots' is not a memory"),
        ("memory: 50MB", "memory: '50MB' is less than any worker needs; write for example memory: 32GiB"),
        ("memory: [1GB]", "is not a memory"),
        ("cores: two", "cores: 'two' is not a number of cores; write a whole number from 1, cores: 4"),
        ("cores: 0", "cores: 0 is not a number"),
        ("cores: 1.5", "cores: 1.5 is not a number"),
        ("processes: no", "processes: False is not a number"),
        ("maximum-jobs: 0", "maximum-jobs: 0 is not a number"),
        ("queue: [a, b]", "queue: ['a', 'b'] is not a single value"),
        ("scheduler-options: eth0", "scheduler-options: 'eth0' is not a mapping"),
        ("job-script-prologue: {a: b}", "is not a list of lines"),
        ("partition: gpu", "partition: unknown key; write queue: gpu"),
        ("wall-time: '04:00:00'", "wall-time: unknown key; write walltime: 04:00:00"),
        ("max-jobs: 3", "max-jobs: unknown key; write maximum-jobs: 3"),
        ("quue: gpu", "quue: unknown key; write queue: gpu"),
        ("zzz: 1", "zzz: unknown key; known: account, cores"),
        ("local-directory: /scratch/$(whoami)", "would run a command in the job script"),
        ("memory: .inf", "memory: inf is not a memory size"),
        ("log-directory: my logs", "has characters that a job script cannot hold"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_the_line_to_write(line, says):
    key = line.partition(":")[0]
    complete = ", ".join(part for part in COMPLETE.split(", ") if not part.startswith(f"{key}:"))
    text = refused(f"jobqueue: {{slurm: {{{complete}, {line}}}}}")
    assert says in text
    assert "jobqueue.yaml, section slurm" in text


@pytest.mark.parametrize(
    ("queue", "line", "write"),
    [
        ("slurm", "gres: 'gpu:1'", "--gres=gpu:1"),
        ("slurm", "qos: high", "--qos=high"),
        ("sge", "parallel-environment: smp 8", "-pe smp 8"),
        ("lsf", "gpus: 1", "-gpu num=1"),
    ],
)
def test_options_without_a_key_are_named_as_lines_of_the_job_script(queue, line, write):
    text = refused(f"jobqueue: {{{queue}: {{{COMPLETE}{NEEDED.get(queue, '')}, {line}}}}}", queue)
    assert f'unknown key; write job-extra-directives: ["{write}"]' in text


def test_all_mistakes_of_a_section_at_once():
    text = refused("jobqueue: {slurm: {cores: two, memory: 32, partition: x, walltime: 30:00}}")
    assert "4 problems" in text


@pytest.mark.parametrize("section", ["", "{}", "[1]", "text"])
def test_a_section_of_comments_or_of_something_else_says_what_to_write(section):
    text = refused(f"jobqueue:\n  slurm: {section}\n")
    assert "cores: 8, memory: 32GiB" in text


def test_a_gpu_section_of_comments_is_the_cpu_section():
    with settings(f"jobqueue: {{slurm: {{{COMPLETE}}}, slurm-gpu: null}}"):
        assert [pool.name for pool in read_pools("slurm", Demand())] == ["cpu", "gpu"]


@pytest.mark.parametrize("name", ["slurm_gpu", "slurm-gpu"])
def test_the_gpu_section_is_found_with_either_sign(name):
    with settings(f"jobqueue: {{slurm: {{{COMPLETE}, maximum_jobs: 7}}, {name}: {{queue: gpu}}}}"):
        cpu, gpu = read_pools("slurm", Demand())
    assert (cpu.maximum, gpu.maximum, gpu.slots) == (7, 7, {"GPU": 1})


@pytest.mark.parametrize("name", ["slurm-gpus", "slurmgpu", "SLURM-GPU", "slurm-gp"])
def test_a_misspelled_gpu_section_is_not_passed_over(name):
    with (
        settings(f"jobqueue: {{slurm: {{{COMPLETE}}}, {name}: {{queue: gpu}}}}"),
        pytest.raises(ConfigError, match="write slurm-gpu: for the GPU pool"),
    ):
        read_pools("slurm", Demand())


def test_other_sections_are_the_users_own():
    with settings(f"jobqueue: {{slurm: {{{COMPLETE}}}, slurm-bigmem: {{partition: x}}, mine: 3}}"):
        assert gpu_section(BATCH_SYSTEMS["slurm"]) is None
        assert len(read_pools("slurm", Demand())) == 1


def test_what_dask_jobqueue_takes_passes_through():
    for system in BATCH_SYSTEMS.values():
        assert system.job_type.config_name == system.name
        defaults = dask.config.merge(*dask.config.defaults)["jobqueue"][system.name]
        complete = {**defaults, "cores": 8, "memory": "64GiB", "maximum-jobs": 2}
        complete |= {"disk": "10GB"} if "disk" in defaults else {}
        with dask.config.set({f"jobqueue.{system.name}": complete}):
            section = read_section(system, system.name)
        assert section is not None
        assert set(defaults) - {"extra", "env-extra", "job-extra", "header-skip"} <= set(section)


def test_an_interface_of_other_nodes_only_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sbatch").write_text("")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with settings(f"jobqueue: {{slurm: {{{COMPLETE}, interface: ib7}}}}"):
        assert "--interface ib7" in job_scripts("slurm")["cpu"]
        says = r"interface: ib7 is not on this machine.*scheduler-options: \{interface: \w+\}"
        with pytest.raises(PlanError, match=says), connect("slurm", dashboard=None):
            pass


NASTY = [
    "with space",
    "x$(touch pwned)y",
    "a'b",
    "back`touch pwned`tick",
    "semi;touch pwned",
    'double"quote',
    "new\nline",
]


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("queue", sorted(set(BATCH_SYSTEMS) - {"htcondor"}))
def test_paths_in_job_scripts_are_quoted(queue, name, tmp_path, monkeypatch):
    """The script runs unchanged, with a Python in a folder of that name that prints its arguments."""
    folder = tmp_path / name
    folder.mkdir()
    python = folder / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(folder)
    from nsdflow.cluster.credentials import temporary_credentials

    with (
        settings(f"jobqueue: {{{queue}: {{{COMPLETE}{NEEDED.get(queue, '')}, walltime: null}}}}"),
        temporary_credentials(folder) as (_, on_disk),
    ):
        script = read_pools(queue, Demand())[0].job_script(on_disk)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert str(python) in done.stdout
    words = done.stdout.replace(str(folder), "FOLDER").splitlines()
    assert words[0] == "FOLDER/python"
    assert re.fullmatch(r"FOLDER/tls-\w+/key.pem", words[words.index("--tls-key") + 1])
    assert [path.name for path in tmp_path.rglob("pwned")] == []


def test_variables_in_a_local_directory_are_filled_in_on_the_node(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with settings(
        f"jobqueue: {{slurm: {{{COMPLETE}, local-directory: $TMPDIR/my files, python: echo, walltime: null}}}}"
    ):
        script = job_scripts("slurm")["cpu"]
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env={"TMPDIR": "/fast"})
    assert "--local-directory /fast/my files --" in done.stdout


def test_the_home_folder_in_paths_of_a_section(tmp_path, monkeypatch):
    """No shell expands ``~`` in the header or between quotes; a folder called ``~`` would appear."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    paths = "log-directory: ~/logs, local-directory: ~/scratch, python: ~/env/bin/python"
    with settings(f"jobqueue: {{slurm: {{{COMPLETE}, {paths}}}}}"):
        script = job_scripts("slurm")["cpu"]
    assert f"#SBATCH -e {tmp_path}/logs/" in script
    assert f"\n{tmp_path}/env/bin/python -m " in script
    assert '--local-directory "$HOME/scratch"' in script
    assert not (tmp_path / "~").exists()
    assert "log-directory: '$NOWHERE/logs': environment variable NOWHERE is not set" in refused(
        f"jobqueue: {{slurm: {{{COMPLETE}, log-directory: $NOWHERE/logs}}}}"
    )


@pytest.mark.parametrize("value", [".inf", "1e400GB", "many", "0"])
def test_a_disk_that_cannot_be_meant_is_one_line(value):
    assert "disk: " in refused(f"jobqueue: {{htcondor: {{{COMPLETE}, disk: {value}}}}}", "htcondor")


def test_htcondor_refuses_a_path_that_its_submit_files_cannot_hold(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/my envs/$(x)/python")
    with (
        settings(f"jobqueue: {{htcondor: {{{COMPLETE}, disk: 1GB}}}}"),
        pytest.raises(PlanError, match="submit files of htcondor"),
    ):
        read_pools("htcondor", Demand())


def test_a_section_may_start_workers_in_a_container(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = "apptainer exec --nv --bind /scratch nsdflow.sif python"
    with settings(f"jobqueue: {{slurm: {{{COMPLETE}, python: {command}}}}}"):
        assert f"\n{command} -m distributed.cli.dask_worker" in job_scripts("slurm")["cpu"]


def test_the_apptainer_recipe_copies_files_that_exist_and_installs_the_constraints():
    root = Path(__file__).parents[2]
    recipe = (root / "docs" / "cluster" / "apptainer.def").read_text()
    copied = re.search(r"%files\n(.*?)\n\n", recipe, re.S)
    assert copied is not None
    assert [line.split()[0] for line in copied[1].splitlines() if not (root / line.split()[0]).exists()] == []
    assert "-c /opt/nsdflow/constraints.txt '/opt/nsdflow[hpc,s3,networks,banded]'" in recipe
