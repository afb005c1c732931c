"""One subject of a small NSD with both sister experiments, and a store of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nsdflow
from nsdflow.store import Store
from nsdflow.synthetic import SyntheticSpec, write_nsd
from tests.few_files import keep_few_files

OPTIONS = {"experiments": "synthetic,imagery", "voxels": "visual", "image_size": 32, "cluster": "threads"}


@pytest.fixture(scope="package")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With few atlases and maps; read only."""
    spec = SyntheticSpec(
        subjects=1,
        sessions=2,
        trials_per_session=60,
        image_size=32,
        evc_voxels=40,
        shared_images=8,
        vertices=162,
        shapes=((16, 17, 14),),
        formats=("hdf5",),
        experiments=("synthetic", "imagery"),
    )
    return keep_few_files(write_nsd(tmp_path_factory.mktemp("sisters") / "nsd", spec))


@pytest.fixture
def own_source(source: Path, tmp_path: Path) -> Path:
    """A copy to break: files are replaced, never written into, so that links do."""
    return Path(shutil.copytree(source, tmp_path / "nsd", copy_function=lambda a, b: Path(b).hardlink_to(a)))


@pytest.fixture(scope="package")
def store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return nsdflow.ingest(source, tmp_path_factory.mktemp("sisters") / "nsd.zarr", **OPTIONS)
