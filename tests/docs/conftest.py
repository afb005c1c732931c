"""The folder in which the documentation's examples run: what ``nsdflow demo`` leaves behind, only smaller."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.ingestion.ingest import ingest, plan_ingest
from nsdflow.synthetic import SyntheticSpec, write_nsd
from tests.pipelines.made_store import store_for

GOLDEN = Path(os.environ.get("NSDFLOW_GOLDEN", Path(__file__).parents[1] / "golden" / "data"))


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``demo/nsd``, ``demo/nsd.zarr``, and in ``demo/runs`` ``gnet8j``, ``gnet8r`` and ``gabor_fwrf``."""
    folder = tmp_path_factory.mktemp("docs")
    demo = folder / "demo"
    write_nsd(demo / "nsd", SyntheticSpec(subjects=1, sessions=2, shared_images=15, formats=("nii.gz",), image_size=72))
    store, runs = str(demo / "nsd.zarr"), str(demo / "runs")
    with connect("threads", dashboard=None) as client:
        ingest(plan_ingest(str(demo / "nsd"), store, image_size=72), client)
        small: dict[str, Any] = {"prefilter": "gabor", "width": 4, "bootstrap": 4, "train": {"epochs": 1}}
        for pipeline in ("gnet8j", "gnet8r"):
            nsdflow.run(pipeline, store=store, runs=runs, client=client, **small)
        few = {"sizes": 1, "smallest": 0.3, "largest": 0.3}
        nsdflow.run("gabor_fwrf", store=store, runs=runs, client=client, candidates=few, lambdas=2)
    return folder


@pytest.fixture(scope="session")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with published files, ``nsd.zarr`` with the voxels of GNet8j, and ``areas.zarr`` with those of GNet8r."""
    folder = tmp_path_factory.mktemp("published")
    for file, store in (("gnet8j_model_params.pt", "nsd.zarr"), ("gnet8r_model_params.pt", "areas.zarr")):
        shutil.copy(GOLDEN / file, folder / file)
        store_for(folder / store, folder / file)
    return folder
