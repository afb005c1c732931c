"""Runs of every kind at a URL, on a file system that cannot rename: same values as in a folder, no leftovers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
import xarray as xr
from distributed import Client

import nsdflow
from nsdflow.errors import MissingDataError
from nsdflow.pipelines.predict.tasks import PublishPredictionsJob, publish_predictions
from nsdflow.report import write_report

GNET: Mapping[str, Any] = {
    "prefilter": "gabor", "width": 4, "threads": 1, "bootstrap": 2, "train": {"epochs": 1, "batch_size": 40},
    "rois": ["V1", "V2"], "subjects": [2],
}  # fmt: skip
KINDS: Mapping[str, Mapping[str, Any]] = {
    "gabor_fwrf": {
        "candidates": {"sizes": 2, "smallest": 0.2, "largest": 0.4},
        "lambdas": 3, "threads": 1, "bootstrap": 4, "candidates_per_task": 10, "subjects": [2],
    },
    "gnet8j": GNET,
    "predict": {"images_per_task": 40, "batch_size": 20, "threads": 1},
    "gnet8r": {**GNET, "roi_groups": ["V1", "V2"]},
    "tuning": {"threads": 1, "bootstrap": 4},
}  # fmt: skip


def left(folder: str) -> set[str]:
    system, path = fsspec.url_to_fs(folder)
    return {entry.rstrip("/").rpartition("/")[2] for entry in system.ls(path, detail=False)}


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
def test_runs_of_every_kind(small_store: str, tmp_path: Path, threads_client: Client) -> None:
    url = f"memory://{uuid.uuid4()}/runs"
    for name, settings in KINDS.items():
        there, here = (
            nsdflow.run(name, store=small_store, runs=runs, client=threads_client, **settings)
            for runs in (url, str(tmp_path))
        )
        assert there.children.keys() == here.children.keys()
        for group in here.children:
            one, other = (tree[group].to_dataset().drop_vars("seconds", errors="ignore") for tree in (there, here))
            xr.testing.assert_equal(one, other)
        files = {"README.md", "run.yaml", "results.zarr", "log.jsonl", "plan.json", "tasks"}
        assert left(f"{url}/{name}") - {"model.safetensors"} == files
        assert str(write_report(f"{url}/{name}")) == f"{url}/{name}/report.html"
    assert publish_predictions(PublishPredictionsJob(f"{url}/predict", ("subj02",))) == {"subjects": ["subj02"]}
    with pytest.raises(MissingDataError, match="no such run"):
        nsdflow.open_run(f"{url}/other")
