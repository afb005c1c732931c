"""``nsdflow run --cluster slurm`` as a user types it, with only a ``jobqueue.yaml`` in the home folder."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from nsdflow.monitor.events import read_log
from tests.same_run import assert_same_run
from tests.slurm.conftest import SMALL, example, queued, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(420)]


def command(*words: str) -> list[str]:
    settings = {**SMALL, **{f"train.{key}": value for key, value in SMALL["train"].items()}}
    sets = [word for key, value in settings.items() if key != "train" for word in ("--set", f"{key}={value}")]
    return ["nsdflow", "run", "gnet8r", "--cluster", "slurm", *sets, *words]


def submitted(job: str) -> str:
    """The script of a batch job as the queue has it."""
    return subprocess.run(
        ["scontrol", "write", "batch_script", job, "-"], capture_output=True, text=True, check=True
    ).stdout


def epochs_of(run: Path) -> list[tuple[str, int]]:
    """Group and number of each epoch that reached a run's log."""
    log = run / "log.jsonl"
    return [(e["group"], e["epoch"]) for e in (read_log(log) if log.exists() else []) if e["kind"] == "epoch"]


def test_a_driver_that_is_killed_leaves_no_jobs_and_the_same_command_goes_on_to_the_same_bits(
    user, small_store, reference
):
    words = command("--store", small_store)
    shown = subprocess.run([*words, "--dry-run"], capture_output=True, text=True, check=True).stdout
    planned = shown.split("--- job script of the gpu pool (")[1].split("\n", 1)[1]
    assert queued() == []

    run = user / "runs" / "gnet8r"
    with (user / "first.txt").open("w") as output:
        driver = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    wait_until(lambda: any(number >= 2 for _, number in epochs_of(run)) or driver.poll() is not None, seconds=120)
    before = epochs_of(run)
    orphans = queued("nsdflow-gpu")
    script = submitted(orphans[0])
    driver.kill()
    driver.wait()
    said = (user / "first.txt").read_text()
    assert not (run / "results.zarr").exists(), said
    assert len(orphans) == 2

    # the submitted script is that of --dry-run, except for the parts that each connection makes
    script = re.sub(r"tls://[\d.]+:\d+", "tls://SCHEDULER:PORT", script)
    script = re.sub(r"\S+/nsdflow-jobs/tls-\w+/", "KEYS/", script).replace("--name gpu-1", "--name gpu-0")
    assert script.strip() == planned.strip()
    for way in ("on this machine: http://127.0.0.1:", "ssh tunnel: ssh -N -L", "nsdflow-jobs"):
        assert way in said

    # at once: orphaned jobs may still train, and must not interfere
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"report: {run}/report.html" in again.stdout
    assert_same_run(reference, run)
    trained = epochs_of(run)
    assert trained[: len(before)] == before
    groups = {group for group, _ in trained}
    assert len(trained) - 4 * len(groups) <= 2  # at most the epoch that was under way in each of two jobs
    wait_until(lambda: queued() == [], seconds=60)


def test_the_first_run_of_the_documentation(user):
    """Every command of the page, in order."""
    script = "".join(block.text for block in example() if "tests/slurm runs it" in block.info)
    doctor = "nsdflow doctor --cluster slurm\n"
    assert script.count(doctor) == 1
    script = script.replace(doctor, doctor.replace("\n", " || [ $? = 1 ]\n"))  # its pretended GPUs are a problem
    done = subprocess.run(["bash", "-euxc", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for start in (
        "ok driver network: workers reach the scheduler at tls://",
        "ok cpu start: a worker on ",
        "ok gpu environment: the same ",
        "ok gpu network: the worker is at tls://",
        "problem gpu GPU: torch sees no GPU, CUDA_VISIBLE_DEVICES=0",
        "ssh tunnel: ssh -N -L ",
        "slurm is not ready: ",
        "#SBATCH --gres=gpu:1",
        f"{user}/project/nsd.zarr: published, with subj01, subj02",
        f"report: {user}/project/runs/gnet8r/report.html",
        "gnet8r/hV4 4 / 4",
    ):
        assert any(line.startswith(start) for line in lines), f"{start}: {done.stdout}"
    assert "every user can read" not in done.stdout  # because of the umask the page begins with
    wait_until(lambda: queued() == [], seconds=30)
