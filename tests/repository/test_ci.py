"""``.ci/run``: its steps, skips and exit status; ``make`` and ``apt-get`` only print what they would do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci" / "run"
TOOLS = ("bash", "env", "dirname", "cat")
MAKE = 'echo "made $*"; case "$*" in *"$FAILS") exit 2;; *" test") echo "== 12 passed ==";; esac'


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder that is the whole ``PATH``: no SLURM, no browser, and a user who is not root."""
    for name in TOOLS:
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    scripts = {"make": MAKE, "apt-get": 'echo "installs $*" >&2', "id": "echo 1000", "python3": "exit 0"}
    for name, script in scripts.items():
        write(tmp_path / name, script)
    return tmp_path


def write(path: Path, script: str) -> None:
    path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
    path.chmod(0o755)


def run(machine: Path, fails: str = "nothing") -> subprocess.CompletedProcess[str]:
    copy = machine / "checkout" / ".ci" / "run"
    copy.parent.mkdir(parents=True)
    # daemons of this machine must not be found
    copy.write_text(RUN.read_text().replace(":/usr/sbin:/sbin", ""))
    environment = {"PATH": str(machine), "FAILS": fails, "HOME": os.environ.get("HOME", "/")}
    command = [str(machine / "bash"), str(copy)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_it_ends_with_what_pytest_counted_and_says_what_it_skipped(machine: Path) -> None:
    done = run(machine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "== 12 passed =="
    made = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("made ")]
    assert made == ["lint", "docs", "user", "test"]
    for step, package in (("slurm", "slurm-wlm"), ("browser", "chromium")):
        assert any(line.startswith(f"skipped: make {step}, because {package}") for line in done.stdout.splitlines())
    assert "installs" not in done.stderr


def test_root_installs_what_is_missing(machine: Path) -> None:
    write(machine / "id", "echo 0")
    installed = ("slurmctld", "slurmd", "munged", "chromium", "chromedriver")
    touch = "; ".join(f"ln -sf {machine}/python3 {machine}/{name}" for name in installed)
    (machine / "ln").symlink_to(str(shutil.which("ln")))
    write(machine / "apt-get", f'echo "installs $*" >&2; [ "$1" = update ] || {{ {touch}; }}')
    done = run(machine)
    assert done.returncode == 0, done.stderr
    assert "installs install -y -qq --no-install-recommends slurm-wlm munge chromium chromium-driver" in done.stderr
    made = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("made ")]
    assert made == ["lint", "docs", "user", "slurm", "browser", "test"]
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("step", ["lint", "docs", "user", "test"])
def test_a_step_that_fails_fails_all_and_the_others_still_run(machine: Path, step: str) -> None:
    done = run(machine, fails=step)
    assert done.returncode == 1
    assert done.stdout.count("made ") == 4
    if step != "test":
        assert f"FAILED: make {step}, " in done.stdout
