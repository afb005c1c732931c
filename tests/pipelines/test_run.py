"""The Python entry points: run, plan and ingest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from typer.testing import CliRunner

import nsdflow
from nsdflow.cli.app import app
from nsdflow.config import documents
from nsdflow.config.storage import Layout
from nsdflow.engine.plan import Plan
from nsdflow.errors import ConfigError, MissingDataError, PlanError
from nsdflow.ingestion import ingest as ingestion
from nsdflow.pipelines import run
from tests.small_runs import GNET8J


@pytest.fixture(scope="module")
def finished(small_gnet8j: Path, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    shutil.copytree(small_gnet8j, runs / "gnet8j")
    return runs


def test_what_is_finished_needs_no_cluster(finished, small_store):
    again = nsdflow.run("gnet8j", store=small_store, runs=finished, cluster="no such cluster", **GNET8J)
    assert again.identical(nsdflow.open_run(finished / "gnet8j"))


def test_a_finished_run_loads_neither_the_scheduler_nor_torch(finished, small_store):
    code = f"""
import json, sys, nsdflow
nsdflow.run("gnet8j", store={small_store!r}, runs={str(finished)!r}, **{dict(GNET8J)!r})
print(json.dumps([name for name in ("distributed.scheduler", "torch", "bokeh") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_paths_are_expanded_wherever_they_are_given(finished, small_store, monkeypatch):
    monkeypatch.setenv("HOME", str(finished.parent))
    monkeypatch.setenv("STORE", small_store)
    again = nsdflow.run("gnet8j", store="$STORE", runs=f"~/{finished.name}", cluster="no such cluster", **GNET8J)
    assert set(again.children) >= {"subj01", "history"}


def test_a_plan_is_data(small_store, tmp_path):
    plan = nsdflow.plan("gnet8r", store=small_store, runs=tmp_path / "runs", **GNET8J)
    assert isinstance(plan, Plan)
    assert plan.missing() == plan.tasks
    assert "peak memory per task" in plan.describe()
    assert list(tmp_path.iterdir()) == []
    whole = nsdflow.plan("paper", store=small_store, runs=tmp_path)
    assert len(whole.steps) > 20
    assert all(step.title in whole.describe() for step in whole.steps)


def test_a_plan_is_held_against_a_cluster(small_store, tmp_path, monkeypatch):
    assert nsdflow.plan("gnet8j", store=small_store, runs=tmp_path, cluster="threads", **GNET8J).tasks
    monkeypatch.setattr("nsdflow.cluster.local.available_memory", lambda *_: 1 << 20)
    with pytest.raises(PlanError, match="but a worker has"):
        nsdflow.plan("gnet8j", store=small_store, runs=tmp_path, cluster="local", **GNET8J)


@pytest.mark.parametrize("pipeline", ["gnet8j", "paper"])
def test_every_file_is_parsed_once(small_store, tmp_path, monkeypatch, pipeline):
    read: list[str] = []
    parse = documents._parse
    monkeypatch.setattr(documents, "_parse", lambda where, text: (read.append(where), parse(where, text))[1])
    nsdflow.plan(pipeline, store=small_store, runs=tmp_path)
    files = [file for file in read if file in documents.shipped_names("pipelines")]
    assert files
    assert len(files) == len(set(files))
    monkeypatch.setattr(run, "_plan", lambda _: Plan("", str(tmp_path), ()))
    monkeypatch.setattr(run, "_carry_out", lambda *_: None)
    monkeypatch.setattr(run, "open_run", lambda _: xr.DataTree())
    for name in ("print_summary", "write_reports"):
        monkeypatch.setattr(f"nsdflow.cli.session.{name}", lambda _: None)
    where = ["--store", str(small_store), "--runs", str(tmp_path), "--cluster", "threads"]
    for begin in (
        lambda: nsdflow.run(pipeline, store=small_store, runs=tmp_path, cluster="threads", listen=None),
        lambda: CliRunner().invoke(app, ["run", pipeline, *where], catch_exceptions=False),
        lambda: CliRunner().invoke(app, ["run", pipeline, *where, "--dry-run"], catch_exceptions=False),
    ):
        read.clear()
        begin()
        files = [file for file in read if file in documents.shipped_names("pipelines")]
        assert files
        assert len(files) == len(set(files))


def test_a_mistake_is_told_before_a_cluster_starts(tmp_path):
    with pytest.raises(MissingDataError):
        nsdflow.run("gnet8j", store=tmp_path / "no.zarr", runs=tmp_path, cluster="no such cluster")
    with pytest.raises(ConfigError, match="NO_SUCH"):
        nsdflow.run("gnet8j", store="$NO_SUCH/nsd.zarr", runs=tmp_path)


def test_ingest_in_one_call(small_nsd, small_store, threads_client, tmp_path):
    settings = {"voxels": "evc", "image_size": 67, "layout": Layout(chunk_voxels=16)}
    store = nsdflow.ingest(small_nsd, tmp_path / "nsd.zarr", client=threads_client, **settings)
    assert store.responses(1).compute().identical(nsdflow.open_store(small_store).responses(1).compute())
    again = nsdflow.ingest(small_nsd, tmp_path / "nsd.zarr", cluster="no such cluster", **settings)
    assert again.subjects == store.subjects
    shutil.rmtree(tmp_path / "nsd.zarr")
    assert ingestion.plan_ingest(str(small_nsd), str(tmp_path / "nsd.zarr"), **settings).tasks
