"""Checkpoints are complete or absent, and errors say what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nsdflow.errors import RunError, StoreError
from nsdflow.fit.gnet.checkpoint import (
    CHECKPOINT_VERSION,
    Checkpoint,
    OptimizerStates,
    Progress,
    Snapshot,
    check_fingerprint,
    read_checkpoint,
    write_checkpoint,
)
from nsdflow.fit.state_files import load_state, save_state


def checkpoint(**fingerprint: int) -> Checkpoint:
    modules = Snapshot({"w": torch.arange(5)}, {"subj01": {"b": torch.zeros(2)}})
    progress = Progress(1, 0, 0.5, modules, [{"epoch": 0}], {"subj01": [torch.ones(2)]})
    return Checkpoint(fingerprint, "none", modules, OptimizerStates(None, {"subj01": {"step": 1}}), progress)


def test_round_trip(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "new" / "checkpoint.pt", checkpoint(seed=1))
    loaded = read_checkpoint(tmp_path / "new" / "checkpoint.pt")
    check_fingerprint("checkpoint.pt", loaded, {"seed": 1}, {})
    assert repr(loaded) == repr(checkpoint(seed=1))
    assert torch.equal(loaded.progress.best.encoder["w"], torch.arange(5))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(("version", "named"), [({}, "an earlier version"), ({"version": 99}, "version 99")])
def test_another_version_is_refused_in_one_line(tmp_path: Path, version: dict[str, int], named: str) -> None:
    save_state(tmp_path / "c.pt", {"fingerprint": {"seed": 1}, **version})
    with pytest.raises(
        RunError, match=f"checkpoint of {named}, .* reads version {CHECKPOINT_VERSION}; .*delete"
    ) as refused:
        read_checkpoint(tmp_path / "c.pt")
    assert "\n" not in str(refused.value)


def test_nothing_there(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "absent.pt") is None


def test_another_training(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c.pt", checkpoint(seed=1, same=2))
    with pytest.raises(RunError, match=r"another training \(new None -> 3, seed 1 -> 2\)"):
        check_fingerprint("c.pt", read_checkpoint(tmp_path / "c.pt"), {"seed": 2, "same": 2, "new": 3}, {})


def test_a_setting_that_is_newer_than_the_checkpoint(tmp_path: Path) -> None:
    """It must have the value that stands for what was done before."""
    write_checkpoint(tmp_path / "c.pt", checkpoint(seed=1))
    found = read_checkpoint(tmp_path / "c.pt")
    check_fingerprint("c.pt", found, {"seed": 1, "new": 3}, {"new": 3})
    check_fingerprint("c.pt", found, {"seed": 1}, {"removed": 3})
    with pytest.raises(RunError, match=r"another training \(new 3 -> 4\)"):
        check_fingerprint("c.pt", found, {"seed": 1, "new": 4}, {"new": 3})


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped"])
def test_damaged(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.pt"
    save_state(path, {"x": torch.arange(10_000)})
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(content[: {"truncated": len(content) // 2, "empty": 0, "flipped": len(content)}[damage]])
    with pytest.raises(RunError, match=r"damaged checkpoint .*; delete it"):
        load_state(path)


FULL_DISK = """
import resource, signal, sys, torch
from nsdflow.errors import StoreError
from nsdflow.fit.state_files import save_state
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
save_state(sys.argv[1], {"epoch": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_state(sys.argv[1], {"epoch": 2, "x": torch.zeros(1_000_000)})
except StoreError as error:
    print(error)
"""


def test_full_disk_keeps_the_last_one(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow, as it does on a full disk."""
    path = tmp_path / "c.pt"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "cannot be written" in done.stdout
    assert "File too large" in done.stdout
    assert load_state(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be made"):
        save_state(tmp_path / "file" / "c.pt", {"epoch": 1})
