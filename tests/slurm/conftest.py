"""A connection to the SLURM that ``start_slurm.sh`` starts, with two small pools."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import dask
import pytest

from nsdflow.cluster.wanted import Patience

#: Waits short enough for a test, long enough for a busy machine.
IMPATIENT = Patience(
    look=0.3, ask=1.0, vanished=20.0, idle=3.0, useful=5.0, back_off=0.5, back_off_at_most=2.0, useless=3
)


@pytest.fixture(scope="session", autouse=True)
def slurm():
    """Skip, and say so, where no SLURM answers."""
    own = Path(os.environ.get("NSDFLOW_SLURM", "/tmp/nsdflow-slurm")) / "slurm.conf"
    with pytest.MonkeyPatch.context() as patch:
        if "SLURM_CONF" not in os.environ and own.exists():
            patch.setenv("SLURM_CONF", str(own))
        if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
            pytest.skip("no SLURM answers; start one with: sh tests/slurm/start_slurm.sh")
        yield


@pytest.fixture
def sections(tmp_path, monkeypatch):
    """``jobqueue.slurm`` and ``jobqueue.slurm-gpu``, as a site would write them; logs below ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    cpu = {"cores": 1, "memory": "1GiB", "walltime": "00:30:00", "queue": "debug", "maximum-jobs": 2}
    gpu = {"job-extra-directives": ["--gres=gpu:1"], "maximum-jobs": 2}
    with dask.config.set({"jobqueue.slurm": cpu, "jobqueue.slurm-gpu": gpu}):
        yield {"cpu": cpu, "gpu": gpu}


@pytest.fixture
def patience() -> Patience:
    return IMPATIENT


def queued(name: str = "") -> list[str]:
    """Ids of the jobs in the queue whose name contains ``name``."""
    lines = subprocess.run(["squeue", "-h", "-o", "%i %j"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in lines.splitlines() if name in line.split()[1]]
