"""Planned memory: sums of named terms that exceed the measured peaks."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.engine.compute import choose_device
from nsdflow.engine.memory import NUMPY_BYTES, Memory
from nsdflow.errors import PlanError
from nsdflow.ingestion.ingest import carry_out, plan_ingest


def test_a_sum_of_named_terms():
    memory = Memory.with_numpy(session=1 << 30, buffers=0.5)
    assert memory == NUMPY_BYTES + (1 << 30)
    assert memory.explain() == "session 1.00 GiB, libraries 250.00 MiB"
    again = pickle.loads(pickle.dumps(memory))
    assert again == memory
    assert again.terms == memory.terms


def test_a_refused_plan_says_what_is_large(small_store, tmp_path):
    plan = nsdflow.plan("gnet8j", store=small_store, runs=tmp_path)
    with pytest.raises(PlanError, match=r"\(.*libraries 700\.00 MiB.*responses.*\) but a worker has 1\.00 MiB"):
        plan.validate(memory_limit=1 << 20)


def test_a_gpu_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(PlanError, match="device: cuda, but torch finds no GPU on this worker; run nsdflow doctor"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


def test_measured_peaks_are_below_the_plan(small_nsd, tmp_path, monkeypatch):
    """Tasks run in separate worker processes; the markers record their peak memory."""
    markers: dict[str, dict] = {}
    plan = plan_ingest(str(small_nsd), str(tmp_path / "nsd.zarr"), voxels="evc", image_size=67)

    def listen(event):
        if event["kind"] == "task-done":
            file = Path(plan.folder) / "tasks" / f"{event['key']}.json"
            markers[event["key"]] = json.loads(file.read_text())

    with connect("local", workers=1, dashboard=None) as client:
        carry_out(plan, client, listen=listen)
    assert markers.keys() == {task.key for task in plan.tasks}
    planned = max(task.memory for task in plan.tasks)
    measured = max(marker["peak_memory"] for marker in markers.values())
    assert 50 << 20 < measured < planned + (30 << 20), f"{measured >> 20} MiB measured, {planned >> 20} MiB planned"
