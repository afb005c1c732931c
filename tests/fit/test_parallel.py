"""A training over several processes gives what one process gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nsdflow.errors import RunError
from nsdflow.fit.gnet import TrainResult, TrainSettings, train
from nsdflow.fit.gnet.parallel import Ranks, join_ranks

# one subject's last batch of 17 has a single trial, so that a process has nothing to do in it
PUBLISHED = {"batch_size": 17, "epochs": 2}
STRICT = {"batch_size": 17, "epochs": 1, "protocol": "strict", "train_prefilter": True}
RUNS = [
    {"name": "strict", "size": 3, "settings": STRICT, "asks": 99, "checkpoint": "strict.pt"},
    {"name": "stopped", "size": 2, "settings": PUBLISHED, "asks": 1, "checkpoint": "stopped.pt"},
    {"name": "resumed", "size": 2, "settings": PUBLISHED, "asks": 99, "checkpoint": "stopped.pt"},
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """Of each run, by process: status, history, number of records that it reported, final state."""
    folder = tmp_path_factory.mktemp("several")
    script = Path(__file__).with_name("several_processes.py")
    command = [sys.executable, str(script), str(folder), json.dumps(RUNS)]
    done = subprocess.run(command, check=False, timeout=240, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {
        run["name"]: [torch.load(folder / f"{run['name']}-{rank}.pt", weights_only=True) for rank in range(run["size"])]
        for run in RUNS
    }


def alone(planted: Callable[..., Any], settings: dict[str, Any]) -> TrainResult:
    return train(*planted(dtype=torch.float64).arguments, settings=TrainSettings(**settings))


def assert_same_state(found: dict[str, Any], expected: TrainResult) -> None:
    parts = {"encoder": expected.final_encoder, **expected.final_readouts}
    assert found.keys() == parts.keys()
    for part, module in parts.items():
        for name, value in module.state_dict().items():
            torch.testing.assert_close(found[part][name], value, rtol=1e-8, atol=1e-10)


def test_all_stop_when_one_is_told(runs) -> None:
    assert [(status, len(history)) for status, history, *_ in runs["stopped"]] == [("stopped", 1)] * 2


@pytest.mark.parametrize(("name", "settings"), [("resumed", PUBLISHED), ("strict", STRICT)])
def test_equals_one_process(runs, planted, name: str, settings: dict[str, Any]) -> None:
    """With dropout, in float64; one of the runs was stopped in between."""
    expected = alone(planted, settings)
    for rank, (status, history, reported, state) in enumerate(runs[name]):
        assert (status, reported) == ("done", int(rank == 0))
        for ours, theirs in zip(history, expected.history, strict=True):
            for key in ("train_loss", "holdout_loss", "holdout_accuracy"):
                assert ours[key] == pytest.approx(theirs[key], rel=1e-8)
        assert_same_state(state, expected)


def test_who_does_not_come_is_told(tmp_path: Path) -> None:
    meeting = join_ranks(0, 2, f"file://{tmp_path}/meet", timeout=1)
    with pytest.raises(RunError, match="process 0 of 2 did not meet the others"), meeting:
        pass


@pytest.mark.parametrize(("count", "size"), [(10, 3), (1, 2), (0, 2), (100, 4)])
def test_parts_partition(count: int, size: int) -> None:
    ranks = [Ranks(rank, size, trials=count) for rank in range(size)]
    parts = [list(range(count))[rank.part(count)] for rank in ranks]
    assert [item for part in parts for item in part] == list(range(count))
    assert max(map(len, parts)) == ranks[0].largest_part
