"""Checkpoints are whole or absent, and tell what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nsdflow.errors import RunError, StoreError
from nsdflow.fit.checkpoint import check_fingerprint, load_state, save_state


def test_round_trip(tmp_path: Path) -> None:
    state = {"fingerprint": {"seed": 1}, "deep": {"x": torch.arange(5), "list": [1, "a", None, 0.5]}}
    save_state(tmp_path / "new" / "checkpoint.pt", state)
    loaded = load_state(tmp_path / "new" / "checkpoint.pt")
    check_fingerprint("checkpoint.pt", loaded, {"seed": 1})
    assert torch.equal(loaded["deep"].pop("x"), state["deep"].pop("x"))
    assert loaded == state
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["checkpoint.pt"]


def test_nothing_there(tmp_path: Path) -> None:
    assert load_state(tmp_path / "absent.pt") is None


def test_another_training(tmp_path: Path) -> None:
    save_state(tmp_path / "c.pt", {"fingerprint": {"seed": 1, "same": 2}})
    with pytest.raises(RunError, match=r"another training \(new None -> 3, seed 1 -> 2\)"):
        check_fingerprint("c.pt", load_state(tmp_path / "c.pt"), {"seed": 2, "same": 2, "new": 3})


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
from nsdflow.fit.checkpoint import save_state
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
