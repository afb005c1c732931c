"""A small synthetic NSD, a cluster to ingest it on, and a store of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from nsdflow.cluster.connect import connect
from nsdflow.config.storage import Layout
from nsdflow.ingestion.ingest import IngestPlan, carry_out, plan_ingest
from nsdflow.store import Store
from nsdflow.synthetic import SyntheticSpec, write_nsd
from tests.few_files import keep_few_files

#: Several chunks and shards in small volumes.
LAYOUT = Layout(chunk_voxels=256, shard_voxels=1024, shard_images=20)
#: Atlases that tests name, besides those that always stay.
ATLASES = ("streams", "floc-faces", "floc-bodies")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connect("threads", threads_per_worker=2, dashboard=None) as client:
        yield client


@pytest.fixture(scope="package")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects, of three and two sessions, in .nii.gz and .hdf5, with few atlases and maps; read only."""
    spec = SyntheticSpec(
        sessions=3, sessions_done=(3, 2), trials_per_session=60, image_size=64, evc_voxels=60, shared_images=8
    )
    return keep_few_files(write_nsd(tmp_path_factory.mktemp("source") / "nsd", spec), *ATLASES)


@pytest.fixture(scope="package")
def surface_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject on nativesurface and fsaverage."""
    spec = SyntheticSpec(
        subjects=1,
        sessions=2,
        trials_per_session=36,
        image_size=40,
        spaces=("nativesurface", "fsaverage"),
        vertices=642,
        shared_images=4,
    )
    return write_nsd(tmp_path_factory.mktemp("surfaces") / "nsd", spec)


@pytest.fixture
def own_source(source: Path, tmp_path: Path) -> Path:
    """A copy to damage; files are replaced, never written into, so links suffice."""
    return Path(shutil.copytree(source, tmp_path / "nsd", copy_function=lambda a, b: Path(b).hardlink_to(a)))


@pytest.fixture(scope="package")
def plan() -> Callable[..., IngestPlan]:
    """``plan(source, store, **settings)`` with small chunks and images."""

    def with_defaults(source: Path, store: Path, **settings) -> IngestPlan:
        return plan_ingest(
            str(source), str(store), **{"image_size": 32, "layout": LAYOUT, "voxels": "brain"} | settings
        )

    return with_defaults


@pytest.fixture(scope="package")
def whole(source: Path, plan: Callable[..., IngestPlan], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """All of ``source``, ingested without interruption."""
    with connect("threads", threads_per_worker=2, dashboard=None) as client:
        return carry_out(plan(source, tmp_path_factory.mktemp("whole") / "nsd.zarr"), client)


@pytest.fixture(scope="package")
def contents() -> Callable[[str | Path], dict[str, bytes]]:
    """Every file of a store by its path, except the record of when and where it was made."""

    def read(store: str | Path) -> dict[str, bytes]:
        files = {path.relative_to(store): path for path in Path(store).rglob("*") if path.is_file()}
        return {str(name): path.read_bytes() for name, path in files.items() if name.name != "manifest.json"}

    return read


@pytest.fixture(scope="package")
def betas_file() -> Callable[..., Path]:
    """Path of the betas of a session."""

    def find(source: Path, subject: int = 1, session: int = 1, format: str = "nii.gz") -> Path:
        (path,) = source.glob(f"nsddata_betas/ppdata/subj{subject:02d}/*/*/betas_session{session:02d}.{format}")
        return path

    return find


@pytest.fixture(scope="package")
def stored_int16() -> Callable[[Store, str], np.ndarray]:
    """Betas of a subject as stored, through zarr."""
    import zarr

    return lambda store, subject: np.asarray(zarr.open_array(f"{store.url}/{subject}/betas", mode="r")[...])
