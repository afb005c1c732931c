"""Findings of the doctor on this machine and for invented answers of workers."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nsdflow.cluster.doctor import Examination, Finding, doctor
from nsdflow.cluster.doctor import examine as module
from nsdflow.cluster.doctor.probe import environment, interface_of, open_to_others

HEALTHY = {
    "host": "node7",
    "address": "tls://10.0.0.7:1",
    "interface": "ib0, 100 Gbit/s",
    "executable": "/env/bin/python",
    "environment": environment(),
    "gpus": [{"name": "A100", "memory": 40 << 30}],
    "visible": "0",
    "scratch": "/scratch",
    "scratch_free": 1 << 40,
    "scratch_files": 10**7,
    "memory_limit": 64 << 30,
    "threads": 8,
    "shared": True,
    "seconds_left": 3600.0,
}


@pytest.fixture
def told(monkeypatch, client):
    """Findings about a pool whose worker gives this answer."""

    def told(pool: str, **differs) -> dict[str, Finding]:
        monkeypatch.setattr(module, "_run_probe", lambda *_: {**HEALTHY, **differs})
        return {finding.what: finding for finding in module._examine(client, pool, 1.0)}

    return told


def test_this_machine_is_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examination = doctor("threads")
    assert examination.healthy
    assert {finding.what for finding in examination.findings} >= {"network", "start", "environment", "files", "scratch"}
    assert "ssh tunnel" in examination.links
    assert list(tmp_path.iterdir()) == []  # the file that it wrote to test whether files are shared is removed
    text = examination.describe()
    assert "ok       cpu     environment: the same 10 versions as here" in text
    assert text.endswith("threads is ready (problems: 0, warnings: 0)")


def test_a_healthy_gpu_worker_has_nothing_to_complain_of(told):
    findings = told("gpu")
    assert {finding.state for finding in findings.values()} == {"ok"}
    assert findings["GPU"].text == "torch sees A100 (40.00 GiB), CUDA_VISIBLE_DEVICES=0"


@pytest.mark.parametrize(
    ("differs", "what", "state", "words"),
    [
        ({"environment": {**environment(), "zarr": "2.18"}}, "environment", "problem", ["zarr", "2.18 there"]),
        ({"shared": False}, "files", "problem", ["where all nodes see them"]),
        ({"scratch_free": 1 << 30}, "scratch", "warning", ["1.00 GiB", "local-directory"]),
        ({"scratch_files": 12}, "scratch", "warning", ["12 files"]),
        ({"gpus": []}, "GPU", "problem", ["torch sees no GPU"]),
        ({"gpus": HEALTHY["gpus"] * 2}, "GPU", "problem", ["2 GPUs", "one GPU per job"]),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(told, differs, what, state, words):
    findings = told("gpu", **differs)
    assert findings[what].state == state
    assert all(word in findings[what].text for word in words)
    assert [finding.what for finding in findings.values() if finding.state != "ok"] == [what]


def test_a_cpu_worker_needs_no_gpu(told):
    assert "GPU" not in told("cpu", gpus=[])


def test_a_pool_that_does_not_come_up_is_a_problem_and_not_a_crash(client, monkeypatch):
    monkeypatch.setattr(module.Feed, "room", lambda self, pool: 0)
    (finding,) = module._examine(client, "cpu", 0.1)
    assert (finding.what, finding.state) == ("start", "problem")
    assert "no worker within 0:00" in finding.text


def test_only_problems_make_a_site_unhealthy():
    warned = Finding("cpu", "scratch", "warning", "little")
    broken = Finding("cpu", "files", "problem", "none")
    assert Examination("slurm", (warned,), {}, {}).healthy
    assert not Examination("slurm", (warned, broken), {}, {}).healthy


@pytest.mark.parametrize(("mode", "may"), [(0o700, ""), (0o750, ""), (0o755, "read"), (0o777, "write")])
def test_folders_open_to_others_are_seen(mode, may):
    with TemporaryDirectory(dir="/tmp") as folder:  # pytest's own temporary folders are closed to others
        Path(folder).chmod(0o755)
        runs = Path(folder) / "runs"
        runs.mkdir()
        runs.chmod(mode)
        assert open_to_others(runs) == may
        Path(folder).chmod(0o700)
        assert open_to_others(runs) == ""


def test_warnings_about_folders_name_the_command_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_to_others", {"runs": "read", "store": "write", "jobs": ""}.get)
    monkeypatch.chdir(tmp_path)
    for name in ("runs", "store", "jobs"):
        (tmp_path / name).mkdir()
    findings = list(module._closed(("runs", "store", "jobs")))
    assert [finding.state for finding in findings] == ["warning", "problem", "ok"]
    assert findings[0].text == "every user can read runs; close it with: chmod o-rwx runs"


@pytest.mark.parametrize(
    ("umask", "closed", "warned"), [(0o022, False, True), (0o027, False, False), (0o022, True, False)]
)
def test_folders_that_will_be_open_to_others_are_foreseen(monkeypatch, umask, closed, warned):
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o700 if closed else 0o755)
        monkeypatch.chdir(folder)
        before = os.umask(umask)
        try:
            findings = list(module._closed(("runs",)))
        finally:
            os.umask(before)
        assert [("umask 007" in finding.text, finding.state) for finding in findings] == [(True, "warning")] * warned


def test_the_interface_behind_an_address_is_named():
    name = interface_of("tcp://127.0.0.1:8786")
    assert name.split(",")[0] in [name for _, name in socket.if_nameindex()]
    assert interface_of("tcp://203.0.113.7:1") == interface_of("inproc://one") == "no network interface"
