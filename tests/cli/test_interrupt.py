"""Ctrl-C with real processes, as a terminal sends it: SIGINT to the whole process group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

NSDFLOW = str(Path(sys.executable).with_name("nsdflow"))
SETTINGS = [
    word for key in ("prefilter=gabor", "width=4", "train.epochs=2000", "bootstrap=0") for word in ("--set", key)
]


def start(*words: object) -> subprocess.Popen[str]:
    """A command in a separate process group."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [NSDFLOW, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
    )


#: A command whose main thread is inside one long C call, where Python runs no signal handlers.
BUSY = """
import hashlib, sys
from nsdflow.cli.interrupt import ctrl_c
with ctrl_c(sys.argv[1:]):
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 50_000_000)
"""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("ingest", "stopping; finished sessions are kept, the same command continues"),
        ("status", "no longer watching; the runs themselves go on"),
        ("export", "stopping"),
    ],
)
@pytest.mark.parametrize("signals", [1, 2])
def test_an_interrupt_is_heard_at_once_inside_a_long_call(command, says, signals):
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "busy\n"
    began = time.monotonic()
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert process.stderr.readline() + process.stderr.readline() == f"\n{says}\n"
    said = time.monotonic() - began
    process.wait(timeout=30)
    seconds = time.monotonic() - began
    _, rest = process.communicate()
    assert (process.returncode, rest) == (130, "")
    assert said < 0.7  # seconds
    assert seconds < (2 if signals == 1 else 1)


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    ends = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < ends, f"{path} never came"
        time.sleep(0.05)


def wait_for_end(process: subprocess.Popen[str], family: list[psutil.Process]) -> tuple[float, str]:
    """Seconds until the command and its workers end, and its output."""
    began = time.monotonic()
    process.wait(timeout=30)
    seconds = time.monotonic() - began
    text, _ = process.communicate()  # closes the pipe; left open, it is a warning in whichever test collects it
    psutil.wait_procs(family, timeout=10)
    assert [one for one in family if one.is_running()] == []
    return seconds, text


def test_an_interrupted_training_says_what_is_kept_and_is_gone_in_two_seconds(small_store, tmp_path):
    process = start("run", "gnet8j", "--store", small_store, "--runs", tmp_path, "--workers", 1, *SETTINGS)
    wait_for(tmp_path / "gnet8j" / "checkpoint" / "joint.pt", process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    seconds, text = wait_for_end(process, family)
    assert seconds < 2.5, text  # two, and the time to notice
    assert process.returncode == 130
    assert text.rstrip().endswith("stopping; finished epochs are kept, the same command continues"), text
    assert "Traceback" not in text


def test_a_second_interrupt_leaves_at_once(small_store, tmp_path):
    process = start("run", "gnet8j", "--store", small_store, "--runs", tmp_path, "--workers", 1, *SETTINGS)
    wait_for(tmp_path / "gnet8j" / "checkpoint" / "joint.pt", process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    seconds, text = wait_for_end(process, family)
    assert seconds < 1, text
    assert process.returncode == 130
    assert "Traceback" not in text


def test_an_interrupt_before_anything_has_started_has_no_traceback(small_store, tmp_path):
    process = start("run", "gnet8j", "--store", small_store, "--runs", tmp_path, *SETTINGS)
    time.sleep(0.6)  # somewhere in the imports
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in text
