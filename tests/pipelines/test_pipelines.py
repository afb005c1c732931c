"""Sequences: the settings and the store of each step, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nsdflow
from nsdflow.errors import ConfigError
from nsdflow.pipelines.run import resolve, run_folders
from nsdflow.pipelines.sequence import SequencePipeline


def settings_of(name: str, **overrides: Any) -> dict[str, dict[str, Any]]:
    """The settings of each step of a sequence."""
    resolved = resolve(name, overrides)
    assert isinstance(resolved, SequencePipeline)
    return {step.pipeline: step.set for step in resolved.steps}


def test_settings_reach_the_steps_of_their_name_and_those_of_sequences_within() -> None:
    steps = settings_of("paper", **{"gnet8j.train.epochs": 2, "synthetic_transfer.gnet8j.width": 4})
    assert steps["gnet8j"] == {"train.epochs": 2}
    assert steps["synthetic_transfer"] == {"gnet8j.train.epochs": 2, "gnet8j.width": 4}
    assert steps["gnet8r"] == {}


def test_what_is_set_for_a_sequence_within_goes_first() -> None:
    steps = settings_of("paper", **{"synthetic_transfer.gnet8j.train.epochs": 3, "gnet8j.train.epochs": 2})
    assert steps["synthetic_transfer"] == {"gnet8j.train.epochs": 3}


def test_a_setting_of_no_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="gnet8k"):
        resolve("paper", {"gnet8k.train.epochs": 2})


def test_a_step_that_appears_twice_is_done_once() -> None:
    folders = run_folders(resolve("paper"), "runs")
    assert len(folders) == len(set(folders)) > 20
    assert folders.count("runs/predict") == 1
    assert folders[-1] == "runs/tables"


def test_two_steps_of_one_name_are_refused(small_store: str, tmp_path: Path) -> None:
    steps = [{"pipeline": "gnet8j"}, {"pipeline": "gnet8j", "set": {"seed": 1}}]
    with pytest.raises(ConfigError, match="two steps are called gnet8j"):
        nsdflow.plan({"name": "twice", "kind": "sequence", "steps": steps}, store=small_store, runs=str(tmp_path))


def test_steps_on_a_store_that_is_not_there_yet_are_announced(small_store: str, tmp_path: Path) -> None:
    plan = nsdflow.plan("synthetic_transfer", store=small_store, runs=str(tmp_path)).describe()
    expected = f"synthetic_gnet8j_noise_transfer: transfer\non {tmp_path}/synthetic_gnet8j/noise.zarr, which an earlier"
    assert expected in plan
    assert "synthetic_gnet8j: synthetic data" in plan
