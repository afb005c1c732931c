"""Asserts that two runs have the same bits, for tests that interrupt one of them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

import nsdflow

__all__ = ["assert_same_run"]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights and results of two runs agree in every bit; how long an epoch took may differ."""
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    trees = [nsdflow.open_run(str(path)) for path in (one, other)]
    for tree in trees:
        tree["history"] = tree["history"].to_dataset().drop_vars("seconds")
    assert trees[0].identical(trees[1])
