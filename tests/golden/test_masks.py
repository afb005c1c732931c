"""Voxel sets, joined ROIs and groups against the published notebooks; subjects and grids come from the file."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import nibabel as nib
import numpy as np
import pytest

from nsdflow.names import ROI_GROUPS
from nsdflow.nsd.layout import roi_paths, volume_path
from nsdflow.nsd.source import Source, open_source
from nsdflow.nsd.voxels.masks import voxel_set
from nsdflow.nsd.voxels.rois import joined_roi

Arrays = dict[str, np.ndarray]

SPACE = "func1pt8mm"
ATLASES = {"prf": "prf-visualrois", "kastner": "Kastner2015", "nsdgeneral": "nsdgeneral"}
#: Names of the published masks and of our sets.
SETS = {"vcventral": "evc", "nsdgeneral": "visual", "tight": "tight", "inflated": "inflated"}


@pytest.fixture(scope="module")
def arrays(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("masks")


@pytest.fixture(scope="module")
def subjects(arrays: Arrays) -> list[str]:
    return sorted(name.rpartition("_")[2] for name in arrays if name.startswith("volume_prf_"))


@pytest.fixture(scope="module")
def source(arrays: Arrays, subjects: list[str], tmp_path_factory: pytest.TempPathFactory) -> Source:
    """The volumes of the file in NSD's layout."""
    root = tmp_path_factory.mktemp("masks")
    for number in subjects:
        subject = f"subj{int(number):02d}"
        files = {name: roi_paths(subject, atlas, SPACE)[0] for name, atlas in ATLASES.items()}
        files |= {"aseg": volume_path(subject, SPACE, "aseg"), "brain": volume_path(subject, SPACE, "brainmask")}
        for name, file in files.items():
            values = arrays[f"volume_{name}_{number}"].astype(np.float64 if name in ATLASES else np.int16)
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(gzip.compress(nib.Nifti1Image(values, np.eye(4)).to_bytes(), 1))
    return open_source(root)


@pytest.mark.parametrize(("published", "ours"), SETS.items())
def test_sets(arrays: Arrays, subjects: list[str], source: Source, published: str, ours: str) -> None:
    for number in subjects:
        mask = voxel_set(source, f"subj{int(number):02d}", ours)
        np.testing.assert_array_equal(np.flatnonzero(mask), arrays[f"{published}_{number}"])


def test_brain(arrays: Arrays, subjects: list[str], source: Source) -> None:
    for number in subjects:
        brain = voxel_set(source, f"subj{int(number):02d}", "brain")
        np.testing.assert_array_equal(brain, arrays[f"volume_brain_{number}"] > 0)


@pytest.mark.parametrize("published", ["vcventral", "nsdgeneral", "inflated"])
def test_joined_labels_and_their_groups(arrays: Arrays, subjects: list[str], source: Source, published: str) -> None:
    """A label that no group lists, such as -1, is in none."""
    for number in subjects:
        labels = joined_roi(source, f"subj{int(number):02d}", SPACE).values.ravel()[arrays[f"{published}_{number}"]]
        np.testing.assert_array_equal(labels, arrays[f"{published}_roi_{number}"])
        groups = np.full(len(labels), "", "U8")
        for name, members in ROI_GROUPS.items():
            groups[np.isin(labels, members)] = name
        np.testing.assert_array_equal(groups, arrays[f"{published}_group_{number}"])


def test_areas_of_early_visual_cortex(arrays: Arrays, subjects: list[str], source: Source) -> None:
    for number in subjects:
        labels = joined_roi(source, f"subj{int(number):02d}", SPACE).values.ravel()[arrays[f"vcventral_{number}"]]
        for area in ("V1", "V2", "V3", "hV4"):
            np.testing.assert_array_equal(np.isin(labels, ROI_GROUPS[area]), arrays[f"vcventral_mask_{area}_{number}"])
