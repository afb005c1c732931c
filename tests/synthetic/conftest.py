"""One synthetic NSD with every kind of file; the tests read it with nibabel, h5py, scipy and pandas."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsdflow.synthetic import SyntheticSpec, write_nsd


@pytest.fixture(scope="session")
def spec() -> SyntheticSpec:
    return SyntheticSpec(
        sessions=5,
        held_out=1,
        trials_per_session=150,
        shared_images=30,
        image_size=64,
        vertices=642,
        spaces=("func1pt8mm", "nativesurface", "fsaverage"),
        betas=("betas_fithrf", "betas_fithrf_GLMdenoise_RR"),
        formats=("nii.gz", "hdf5", "mat"),
        lost_runs=((2, 1, 10),),
        seed=7,
    )


@pytest.fixture(scope="session")
def nsd(spec: SyntheticSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nsd(tmp_path_factory.mktemp("synthetic") / "nsd", spec)
