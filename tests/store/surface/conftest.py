"""Arrays on the voxels of a synthetic brain that has surfaces and transforms, without betas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nsdflow.store.voxels import voxel_table
from nsdflow.synthetic import SyntheticSpec
from nsdflow.synthetic.published.cortex import write_cortex

SHAPE = (24, 28, 22)
SPEC = SyntheticSpec(subjects=1, vertices=642, shapes=(SHAPE,))


@pytest.fixture(scope="session")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cortex")
    write_cortex(root, SPEC)
    return root


def functional_mm() -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * 1.8 for n in SHAPE]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


@pytest.fixture
def heights(nsd: Path) -> xr.DataArray:
    """Three maps on all voxels of the volume: x, y and z in mm; ROI 1 in the lower half, 3 in the upper."""
    mm = functional_mm()
    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2 * 1.8
    table = voxel_table(np.arange(len(mm)), SHAPE, roi=np.where(mm[:, 2] < 0, 1, 3), affine=affine)
    values = mm[table["flat_index"].values].T
    coords = {**table.coords, "axis": list("xyz")}
    attrs = {"subject": "subj01", "space": "func1pt8mm", "source": str(nsd)}
    return xr.DataArray(values, coords, ("axis", "voxel"), "heights", attrs)
