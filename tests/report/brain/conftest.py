"""A data set of results on the voxels of a synthetic brain with its surfaces: no betas, no run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nsdflow.store.voxels import voxel_table
from nsdflow.synthetic import SyntheticSpec
from nsdflow.synthetic.brain.planting import subject_anatomy
from nsdflow.synthetic.published.cortex import write_cortex

SPEC = SyntheticSpec(subjects=1, vertices=642)


@pytest.fixture(scope="session")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cortex")
    write_cortex(root, SPEC)
    return root


@pytest.fixture
def subject(nsd: Path) -> xr.Dataset:
    """Accuracy is the position from left to right, -1 .. 1; three layers, of which each voxel prefers one."""
    anatomy = subject_anatomy(SPEC, 1, "func1pt8mm")
    shape = SPEC.shapes[0]
    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    table = voxel_table(np.flatnonzero(anatomy.visual), shape, roi=anatomy.joined_roi, affine=affine)
    flat = table["flat_index"].values
    prefers = (flat % 3)[:, None] == [0, 1, 2]
    return table.assign(
        accuracy=("voxel", anatomy.positions[flat, 0]),
        noise_ceiling=("voxel", np.full(len(flat), 0.5)),
        weights=(("voxel", "feature"), np.where(prefers, 2.0, 0.1).repeat(2, axis=1)),
        rf=(("voxel", "parameter"), np.stack([anatomy.x[flat], anatomy.y[flat], 0.05 + 0 * flat], axis=1)),
    ).assign_coords(
        layer=("feature", ["a", "a", "b", "b", "c", "c"]),
        parameter=["x", "y", "sigma"],
        prf_eccentricity=("voxel", 8.4 * np.hypot(anatomy.x[flat], anatomy.y[flat])),
    ).assign_attrs(subject="subj01", space="func1pt8mm", source=str(nsd))  # fmt: skip
