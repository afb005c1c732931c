"""The folder in which the documentation's examples run: a smaller version of the results of ``nsdflow demo``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.synthetic import write_nsd
from tests.pipelines.made_store import store_for
from tests.small_runs import SMALL_NSD

GOLDEN = Path(os.environ.get("NSDFLOW_GOLDEN", Path(__file__).parents[1] / "golden" / "data"))

GNET: dict[str, Any] = {
    "prefilter": "gabor",
    "width": 8,
    "bootstrap": 20,
    "threads": 1,
    "train": {"epochs": 4, "learning_rate": 3e-3, "prefilter_cache": "full"},
}
FWRF: dict[str, Any] = {
    "features": "gabor_low",
    "candidates": {"sizes": 2, "smallest": 0.15, "largest": 0.3},
    "lambdas": 3,
    "bootstrap": 20,
    "threads": 1,
}


@pytest.fixture(scope="session")
def demo_folder(small_store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``demo/nsd``, ``demo/nsd.zarr``, and in ``demo/runs`` ``gnet8j``, ``gnet8r`` and ``gabor_fwrf``."""
    demo = tmp_path_factory.mktemp("docs") / "demo"
    store, runs = str(demo / "nsd.zarr"), str(demo / "runs")
    write_nsd(demo / "nsd", SMALL_NSD)  # with all atlases and maps, as the pages list them
    shutil.copytree(small_store, store, copy_function=os.link)
    with connect("threads", dashboard=None) as client:
        where: dict[str, Any] = {"store": store, "runs": runs, "client": client}
        nsdflow.run("gnet8j", **where, **GNET)
        # its page reads one subject
        nsdflow.run("gnet8r", **where, **{**GNET, "width": 4, "train": {"epochs": 1}}, subjects=[1])
        nsdflow.run("gabor_fwrf", **where, **FWRF)
    return demo.parent


@pytest.fixture(scope="session")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published files, ``nsd.zarr`` with the voxels of GNet8j, and ``areas.zarr`` with those of GNet8r."""
    folder = tmp_path_factory.mktemp("published")
    for file, store in (("gnet8j_model_params.pt", "nsd.zarr"), ("gnet8r_model_params.pt", "areas.zarr")):
        shutil.copy(GOLDEN / file, folder / file)
        store_for(folder / store, folder / file)
    return folder
