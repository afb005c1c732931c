"""``nsdflow status`` of a run: from its log, once or live in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nsdflow.engine import markers
from nsdflow.engine.driver_lock import holding
from nsdflow.errors import MissingDataError
from nsdflow.monitor.events import RunLog, make_event
from nsdflow.runs.status import read_status


def epoch(number: int) -> dict:
    subjects = {"subj01": 0.1 * number, "subj02": 0.05 * number}
    return make_event(
        "epoch", run="gnet8r", group="V1", epoch=number, epochs=10, seconds=60.0, loss=1 / number, holdout_loss=0.5,
        accuracy=0.08 * number, subjects=subjects, gpu_memory=3 << 30, worker_name="gpu-0",
    )  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    """The files of a run in the middle of its training."""
    folder = tmp_path / "runs" / "gnet8r"
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text("created: '2026-11-27T04:00:00+00:00'\npipeline: {kind: gnet}\nstore: {}\n")
    markers.write_plan(str(folder), {"train": ["train-V1", "train-V2"], "join": ["join"]})
    markers.write(str(folder), "train-V2", {})
    jobs = {"cpu": {"queued": 0, "up": 1, "maximum": 4}, "gpu": {"queued": 1, "up": 1, "maximum": 2}}
    with RunLog(folder / "log.jsonl") as log:
        log(make_event("job", pool="gpu", name="gpu-0", id="7", state="lost", reason="job 7 ended TIMEOUT", jobs=jobs))
        for number in (1, 2, 3):
            log(epoch(number))
    return folder


def test_a_run_under_way_says_what_the_dashboard_says(run):
    with holding(f"{run}/driver"):
        (status,) = read_status(str(run.parent), now=time.time() + 65)
    lines = status.describe().splitlines()
    assert "gnet pipeline of 2026-11-27" in lines[0]
    assert re.search(r"not finished; last sign of life 1:0[56] ago; a command on \S+ .* works on it", lines[0])
    squeezed = [re.sub(r"  +", "|", line.strip()) for line in lines]
    assert "train|1 / 2" in squeezed
    assert "join|0 / 1" in squeezed
    (training,) = [line for line in squeezed if line.startswith("gnet8r/V1|3 / 10")]
    assert re.fullmatch(
        r"gnet8r/V1\|3 / 10\|0\.3333\|0\.5000\|0\.2400\|60\.0\|7:00\|1:0[56]\|3\.0 GiB\|gpu-0", training
    )
    assert "median holdout accuracy|subj01|subj02" in squeezed
    assert "gnet8r/V1|0.3000|0.1500" in squeezed
    assert "gpu|1|1|2" in squeezed
    assert squeezed[-1].endswith("job 7 (gpu-0) lost: job 7 ended TIMEOUT")


def test_a_run_whose_command_is_gone_says_so_and_shows_no_jobs(run):
    (status,) = read_status(str(run))
    assert status.describe().splitlines()[0].endswith("no command works on it, the same one continues")
    assert "queued" not in status.describe()


def test_clocks_that_jump_and_times_that_are_none(run):
    """The events are of a day to come, as after a jump back; damaged lines have times that no clock shows."""
    with (run / "log.jsonl").open("a") as log:
        for when in ("NaN", "1e999", "1e300", "-1e300", '"now"', "null", "9" * 400):
            log.write(f'{{"kind": "note", "time": {when}, "text": "x"}}\n')
            log.write(f'{{"kind": "epoch", "run": "r", "group": "g", "epoch": 1, "epochs": 2, "time": {when}}}\n')
        log.write(json.dumps(epoch(4)) + "\n")
    for now in (0.0, 1e12):
        text = read_status(str(run), now=now)[0].describe()
        assert "gnet8r/V1" in text
        assert "last sign of life" in text
        assert "-" not in text.split("last sign of life ")[1].split(" ago")[0]


def test_a_finished_run_says_nothing_that_passes(run):
    (run / "results.zarr").mkdir()
    (status,) = read_status(str(run))
    text = status.describe()
    assert status.finished
    assert "0.2400" in text
    for passing in ("checkpoint age", "time left", "worker", "queued", "lost", "sign of life"):
        assert passing not in text


def test_stores_and_what_is_neither(tmp_path):
    with pytest.raises(MissingDataError, match="neither a run"):
        read_status(str(tmp_path))
    markers.write_plan(str(tmp_path / "nsd.zarr.building"), {"betas": ["a", "b"]})
    (status,) = read_status(str(tmp_path / "nsd.zarr"))
    assert "being built" in status.describe()
    assert re.search(r"betas +0 / 2", status.describe())


def test_in_a_terminal_it_follows_the_run_to_its_end(run):
    ours, theirs = pty.openpty()
    program = [str(Path(sys.executable).with_name("nsdflow")), "status", str(run)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "50"}
    process = subprocess.Popen(program, stdout=theirs, stderr=theirs, stdin=theirs, env=environment)
    os.close(theirs)
    try:
        seen = read_until(ours, "3 / 10")
        assert "4 / 10" not in seen
        with RunLog(run / "log.jsonl") as log:
            log(epoch(4))
        read_until(ours, "4 / 10")
        (run / "results.zarr").mkdir()
        read_until(ours, ", finished")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, word: str, seconds: float = 60.0) -> str:
    """The output of a terminal until a word appears."""
    ends, seen = time.monotonic() + seconds, ""
    while word not in seen:
        assert time.monotonic() < ends, f"{word} never came; seen: {seen}"
        seen += os.read(terminal, 65536).decode(errors="replace")
    return seen
