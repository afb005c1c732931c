"""The table of pipeline kinds: every record has settings and a planner, and every kind has a page."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from nsdflow.config import PipelineBase
from nsdflow.pipelines.kinds import KINDS, Kind
from nsdflow.pipelines.load import load_pipeline, pipeline_names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_each_record_leads_to_settings_and_a_planner(kind: Kind) -> None:
    assert issubclass(kind.settings, PipelineBase)
    assert kind.settings.model_fields["kind"].default == kind.name
    if kind.name == "sequence":
        with pytest.raises(TypeError, match="step by step"):
            kind.plan  # noqa: B018
    else:
        assert list(inspect.signature(kind.plan).parameters)[1:] == ["store", "folder"]
    assert kind.predictor is None or kind.predictor.memory >= 0


def test_every_kind_has_a_pipeline_that_ships() -> None:
    shipped = {yaml.safe_load((ROOT / "pipelines" / f"{name}.yaml").read_text())["kind"] for name in pipeline_names()}
    assert shipped == set(KINDS)
    assert all(isinstance(load_pipeline(name), KINDS[load_pipeline(name).kind].settings) for name in pipeline_names())
