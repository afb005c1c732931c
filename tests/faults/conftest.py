"""Fixtures of the fault tests: a small NSD, its results without faults, and comparisons with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.config.storage import Layout
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.synthetic import SyntheticSpec, write_nsd
from tests.few_files import keep_few_files

#: Several chunks, shards and sessions in very small volumes.
INGEST = {"voxels": "evc", "image_size": 67, "layout": Layout(chunk_voxels=16, shard_images=20)}
#: A training of seconds; one thread, so that the machine does not matter.
TRAIN = {"prefilter": "gabor", "width": 4, "threads": 1, "bootstrap": 4, "train": {"epochs": 3, "batch_size": 40}}


@pytest.fixture(scope="package")
def nsd(tmp_path_factory) -> Path:
    spec = SyntheticSpec(
        subjects=2, sessions=2, trials_per_session=60, shared_images=8, image_size=72, evc_voxels=60,
        formats=("nii.gz",),
    )  # fmt: skip
    return keep_few_files(write_nsd(tmp_path_factory.mktemp("nsd") / "nsd", spec))


@pytest.fixture(scope="package")
def whole(nsd, tmp_path_factory) -> tuple[str, Path]:
    """Store and GNet8j run of a session in which nothing went wrong."""
    folder = tmp_path_factory.mktemp("whole")
    with connect("threads", dashboard=None) as client:
        store = carry_out(plan_ingest(str(nsd), str(folder / "nsd.zarr"), **INGEST), client).url
        nsdflow.run("gnet8j", store=store, runs=str(folder / "runs"), client=client, **TRAIN)
    return store, folder / "runs" / "gnet8j"


def contents(store: str | Path) -> dict[str, bytes]:
    """Every file of a store by its path, without the record of when and where it was made."""
    files = {path.relative_to(store): path for path in Path(store).rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in files.items() if name.name != "manifest.json"}


#: The same settings for the command line.
STORAGE = """
store: {store}
voxels: evc
image_size: 67
layout: {{chunk_voxels: 16, shard_images: 20}}
"""
SETTINGS = [
    f"--set={key}={json.dumps(value)}" for key, value in {"prefilter": "gabor", "width": 4, "threads": 1}.items()
]
SETTINGS += ["--set=bootstrap=4", "--set=train.epochs=3", "--set=train.batch_size=40"]


def command(*arguments: str, die: str = "never:", count: int = 1, env: dict[str, str] | None = None):
    """Run ``nsdflow`` in a separate process; ``die`` is the event at which it is killed with -9."""
    driver = [sys.executable, str(Path(__file__).with_name("driver.py")), die, str(count), *arguments]
    return subprocess.run(driver, capture_output=True, text=True, check=False, timeout=280, env=env)


@pytest.fixture
def ingest_command(nsd, tmp_path) -> list[str]:
    """An ingestion into ``nsd.zarr`` of the test's folder."""
    profile = tmp_path / "storage.yaml"
    profile.write_text(STORAGE.format(store=tmp_path / "nsd.zarr"))
    return ["ingest", "--source", str(nsd), "--storage", str(profile), "--cluster", "threads"]


@pytest.fixture
def run_command(whole, tmp_path) -> list[str]:
    """A training in ``runs/gnet8j`` of the test's folder."""
    runs = str(tmp_path / "runs")
    return ["run", "gnet8j", "--store", whole[0], "--runs", runs, "--cluster", "threads", *SETTINGS]


def tell(done: subprocess.CompletedProcess) -> str:
    """The single error line of a failed command."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return line.removeprefix("error: ")


def marks(folder: Path) -> dict[str, bytes]:
    """The done-markers of a folder; a marker that was written again differs."""
    return {path.stem: path.read_bytes() for path in (folder / "tasks").glob("*.json")}
