"""What the fault tests share: a small NSD and its results without any fault, and ways to compare with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.config.storage import Layout
from nsdflow.synthetic import SyntheticSpec, write_nsd
from nsdflow.workflows.ingest import ingest, plan_ingest

#: Several chunks, shards and sessions in very small volumes.
INGEST = {"voxels": "evc", "image_size": 67, "layout": Layout(chunk_voxels=16, shard_images=20)}
#: A training of seconds; one thread, so that the machine does not matter.
TRAIN = {"prefilter": "gabor", "width": 4, "threads": 1, "bootstrap": 4, "train": {"epochs": 3, "batch_size": 40}}


@pytest.fixture(scope="package")
def nsd(tmp_path_factory) -> Path:
    spec = SyntheticSpec(subjects=2, sessions=2, trials_per_session=60, shared_images=8, image_size=72, evc_voxels=60)
    return write_nsd(tmp_path_factory.mktemp("nsd") / "nsd", spec)


@pytest.fixture(scope="package")
def whole(nsd, tmp_path_factory) -> tuple[str, Path]:
    """Store and GNet8j run of a session in which nothing went wrong."""
    folder = tmp_path_factory.mktemp("whole")
    with connect("threads", dashboard=None) as client:
        store = ingest(plan_ingest(str(nsd), str(folder / "nsd.zarr"), **INGEST), client).url
        nsdflow.run("gnet8j", store=store, runs=str(folder / "runs"), client=client, **TRAIN)
    return store, folder / "runs" / "gnet8j"


def contents(store: str | Path) -> dict[str, bytes]:
    """Every file of a store by its path, without the record of when and where it was made."""
    files = {path.relative_to(store): path for path in Path(store).rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in files.items() if name.name != "manifest.json"}


def assert_same_run(one: Path, other: Path) -> None:
    """Weights and results of two runs agree in every bit; how long an epoch took may differ."""
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    trees = [nsdflow.open_run(str(path)) for path in (one, other)]
    for tree in trees:
        tree["history"] = tree["history"].to_dataset().drop_vars("seconds")
    assert trees[0].identical(trees[1])
