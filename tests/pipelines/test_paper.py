"""All analyses of the paper in the order of their inputs: small here, and with its command on two cores at night."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from distributed import Client

import nsdflow
from nsdflow.config.storage import Layout
from nsdflow.ingestion.ingest import ingest, plan_ingest
from nsdflow.pipelines.run import resolve, run_folders
from nsdflow.report import write_report
from nsdflow.synthetic import SyntheticSpec, write_nsd

GNETS = ("gnet8j", "gnet8r", "gnet8jft")
TRAINED = (*GNETS, "transfer", "alexnet_fpf")
SETS = ["Alexnet", "GNet8j", "GNet8r", "Experimental"]


def small_settings(weights: Path) -> dict[str, Any]:
    """Every step as small as it can be."""
    training = {"threads": 1, "bootstrap": 2, "train": {"epochs": 1, "batch_size": 40}}
    fwrf = {"threads": 1, "bootstrap": 2, "candidates": {"sizes": 1, "smallest": 0.4}, "lambdas": 2}
    settings: dict[str, Any] = {name: dict(training) for name in TRAINED}
    for name in GNETS:
        settings[name] |= {"prefilter": "gabor", "width": 4}
    return settings | {
        "alexnet_fpf": training | {"feature_weights": str(weights), "max_features_per_layer": 8},
        "alexnet_fwrf": fwrf | {"feature_weights": str(weights), "max_features_per_layer": 8},
        "gabor_fwrf": fwrf,
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
    ingest(plan, threads_client)
    return str(folder / "nsd.zarr")


def test_the_whole_paper(tiny_store: str, tmp_path: Path, threads_client: Client, alexnet: Path) -> None:
    settings = small_settings(alexnet)
    where = {"store": tiny_store, "runs": str(tmp_path), "client": threads_client}
    trees = nsdflow.run("paper", **where, **settings)
    folders = [Path(path) for path in run_folders(resolve("paper"), str(tmp_path))]
    assert [path.name for path in folders] == list(trees.children)
    assert all((path / "results.zarr").is_dir() for path in folders)
    table = pd.read_csv(tmp_path / "tables" / "transfer.csv")
    assert list(table["set"].unique()) == SETS
    assert list(table["subj"].unique()) == [1, 2]  # the subject, and all of them together
    accuracy = pd.read_csv(tmp_path / "tables" / "accuracy.csv")
    assert accuracy.notna().all().all(), "a run for every column"
    everything = pd.read_csv(tmp_path / "synthetic_tables" / "transfer.csv")
    assert sorted(everything["set"].unique()) == sorted([*SETS, *(f"{name} noise" for name in SETS[:-1])])
    for name in ("tables", "synthetic_tables", "synthetic_gnet8j", "synthetic_alexnet_noise_transfer"):
        assert write_report(tmp_path / name).stat().st_size > 10_000
    again = nsdflow.run("paper", **where, **settings)
    assert list(again.children) == list(trees.children)


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
