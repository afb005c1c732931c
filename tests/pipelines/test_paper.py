"""All analyses of the paper in the required order: small here, and with the documented command in the nightly tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from distributed import Client

import nsdflow
from nsdflow.config.storage import Layout
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.pipelines.run import resolve, run_folders
from nsdflow.pipelines.steps import steps_of
from nsdflow.pipelines.tables import TablesPipeline
from nsdflow.report import write_report
from nsdflow.synthetic import SyntheticSpec, write_nsd

GNETS = ("gnet8j", "gnet8r", "gnet8jft")
AREAS = ["V1", "V2"]
#: Steps of synthetic_transfer that differ from the others only in names, which another test checks.
REPEATED = ("synthetic_gnet8r", "predict_gnet8r", "synthetic_alexnet", "predict_alexnet", "gnet8j_noise_")
SETS = ["Alexnet", "GNet8j", "GNet8r", "Experimental"]


def small_settings() -> dict[str, Any]:
    """Every step as small as possible: two areas, one epoch, and features without a download."""
    training = {"threads": 1, "bootstrap": 2, "rois": AREAS, "train": {"epochs": 1, "batch_size": 40}}
    gnet = training | {"prefilter": "gabor", "width": 4}
    fwrf = {"threads": 1, "bootstrap": 2, "candidates": {"sizes": 1, "smallest": 0.4}, "lambdas": 2, "rois": AREAS}
    return {
        **dict.fromkeys(GNETS, gnet),
        "gnet8r": gnet | {"roi_groups": AREAS},
        "transfer": training | {"trunk_rois": AREAS},
        "alexnet_fpf": training | {"features": "gabor_low", "layers": ["3 cycles/image", "4 cycles/image"]},
        "alexnet_fwrf": fwrf | {"features": "gabor_low"},
        "gabor_fwrf": fwrf | {"features": "gabor_low"},
        "predict": {"images_per_task": 40, "batch_size": 40, "threads": 1},
        "tuning": {"bootstrap": 2, "threads": 1},
    }


@pytest.fixture(scope="module")
def tiny_store(tmp_path_factory: pytest.TempPathFactory, threads_client: Client) -> str:
    """One subject of 40 voxels and 96 trials."""
    folder = tmp_path_factory.mktemp("tiny")
    spec = SyntheticSpec(
        subjects=1, sessions=2, trials_per_session=48, shared_images=8, image_size=67, evc_voxels=40, behaviour=False
    )
    plan = plan_ingest(
        str(write_nsd(folder / "nsd", spec)), str(folder / "nsd.zarr"), image_size=67, layout=Layout(chunk_voxels=16)
    )
    carry_out(plan, threads_client)
    return str(folder / "nsd.zarr")


@pytest.fixture
def short_paper(tmp_path: Path) -> dict[str, Any]:
    """The shipped sequences, with one synthetic signal and its noiseless responses instead of three with two each."""
    transfer = resolve("synthetic_transfer").model_dump(mode="json")
    names = [str(step["set"].get("name")) for step in transfer["steps"]]
    kept = [not any(word in name for word in REPEATED) for name in names]
    transfer["steps"] = list(compress(transfer["steps"], kept))
    assert len(transfer["steps"]) == 6
    file = tmp_path / "synthetic_transfer.yaml"
    file.write_text(yaml.safe_dump(transfer))
    paper = resolve("paper").model_dump(mode="json")
    for step in paper["steps"]:
        if step["pipeline"] == "synthetic_transfer":
            step["pipeline"] = str(file)
    return paper


@pytest.mark.usefixtures("blank_pictures")
def test_the_paper_in_short(
    tiny_store: str,
    short_paper: dict[str, Any],
    tmp_path: Path,
    threads_client: Client,
) -> None:
    settings, runs = small_settings(), tmp_path / "runs"
    where: dict[str, Any] = {"store": tiny_store, "runs": str(runs), "client": threads_client}
    trees = nsdflow.run(short_paper, **where, **settings)
    folders = [Path(path) for path in run_folders(resolve(short_paper), str(runs))]
    assert [path.name for path in folders] == list(trees.children)
    assert all((path / "results.zarr").is_dir() for path in folders)
    for name in ("tables", "synthetic_tables"):
        table = pd.read_csv(runs / name / "transfer.csv")
        assert sorted(table["set"].unique()) == ["Experimental", "GNet8j"]
        assert list(table["subj"].unique()) == [1, 2]  # the subject, and all of them together
    accuracy = pd.read_csv(runs / "tables" / "accuracy.csv")
    assert accuracy[accuracy["ROI"].isin(AREAS)].notna().all().all(), "a run for every column"
    compared = pd.read_csv(runs / "synthetic_tables" / "comparison_GNet8j_noiseless.csv")
    assert set(AREAS) <= set(compared["ROI"])
    tuned = trees["tuning_gnet8r"]["subj01"].to_dataset()
    np.testing.assert_array_equal(tuned["flat_index"], trees["gnet8r"]["subj01"]["flat_index"])
    for name in ("synthetic_tables", "synthetic_gnet8j", "synthetic_gnet8j_noiseless_transfer"):
        assert "<h2" in write_report(runs / name).read_text()
    before = [path.stat().st_mtime_ns for path in folders]
    again = nsdflow.run(short_paper, **where, **settings)
    assert list(again.children) == list(trees.children)
    assert [path.stat().st_mtime_ns for path in folders] == before


def test_every_step_reads_what_an_earlier_step_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names in the shipped files: runs, synthetic stores, and the runs that tables read."""
    monkeypatch.setattr("nsdflow.pipelines.common.misfits.misfits", lambda *_: [])  # without a store
    _, steps = steps_of("paper", {}, store="nsd.zarr", runs="runs")
    made: dict[str, set[str]] = {}
    for step in steps:
        pipeline = step.pipeline
        assert set(pipeline.earlier_runs()) <= made.keys(), pipeline.name
        if step.made_earlier:
            run, data_set = step.store.split("/")[-2:]
            assert data_set.removesuffix(".zarr") in made[run], pipeline.name
        if isinstance(pipeline, TablesPipeline):
            pairs = [run for pair in pipeline.comparisons.values() for run in pair]
            assert {*pipeline.models, *pipeline.transfers.values(), *pairs} <= made.keys(), pipeline.name
        made[pipeline.name] = set(getattr(pipeline, "datasets", ()))
    tables = {step.pipeline.name: step.pipeline for step in steps if isinstance(step.pipeline, TablesPipeline)}
    assert sorted(tables["synthetic_tables"].transfers) == sorted([*SETS, *(f"{name} noise" for name in SETS[:-1])])
    assert len(tables["synthetic_tables"].comparisons) == 6


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_page_about_two_cores_keeps_its_word(
    tmp_path: Path, alexnet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block of the page itself: a synthetic NSD, its store, all pipelines, within half an hour."""
    page = (Path(__file__).parents[2] / "docs" / "analyses" / "paper.md").read_text()
    (block,) = re.findall(r"## On two cores.*?```bash[^\n]*\n(.*?)```", page, flags=re.DOTALL)
    script = re.sub(r"^WEIGHTS=.*$", f"WEIGHTS={alexnet}", block, flags=re.MULTILINE)
    assert str(alexnet) in script
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    start = time.monotonic()
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True)
    assert time.monotonic() - start < 30 * 60
    table = pd.read_csv("demo/runs/tables/transfer.csv")
    assert list(table["set"].unique()) == SETS
    assert table.notna().all().all()
