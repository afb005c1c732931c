"""``nsdflow export``: the files as nibabel and nilearn read them, on the requested grid or surface."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from nsdflow.cli.app import app
from nsdflow.errors import SelectionError
from nsdflow.runs.export import export_maps
from nsdflow.runs.results import write_results
from nsdflow.store.voxels import voxel_table
from nsdflow.synthetic import SyntheticSpec
from nsdflow.synthetic.published.cortex import write_cortex

SHAPE = (20, 24, 18)


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cortex")
    write_cortex(root, SyntheticSpec(subjects=1, vertices=162))
    return root


@pytest.fixture
def run(nsd: Path, tmp_path: Path) -> Path:
    """A run whose accuracy is the height of a voxel: i - 9.5, negative in the left hemisphere."""
    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2 * 1.8
    table = voxel_table(np.arange(np.prod(SHAPE)), SHAPE, roi=np.ones(np.prod(SHAPE), int), affine=affine)
    subject = table.assign(
        accuracy=("voxel", table["i"].values - 9.5),
        weights=(("voxel", "feature"), np.zeros((table.sizes["voxel"], 2))),
    ).assign_attrs(subject="subj01", space="func1pt8mm", source=str(nsd))
    write_results(tmp_path / "run", xr.DataTree.from_dict({"/": xr.Dataset(), "/subj01": subject}))
    return tmp_path / "run"


def test_gifti_on_fsaverage_with_its_surfaces(run: Path, tmp_path: Path) -> None:
    paths = export_maps(str(run), tmp_path / "maps", "gifti")
    names = {path.name for path in paths}
    assert {"hemi-L_subj01_accuracy.func.gii", "hemi-R_subj01_accuracy.func.gii"} <= names
    assert {"hemi-L_subj01_white.surf.gii", "hemi-R_subj01_inflated.surf.gii"} <= names
    left, right = (nib.load(tmp_path / "maps" / f"hemi-{h}_subj01_accuracy.func.gii") for h in "LR")
    rois = nib.load(tmp_path / "maps/hemi-R_subj01_roi.label.gii")
    assert set(rois.agg_data().tolist()) == {1}
    assert rois.labeltable.get_labels_as_dict()[1] == "V1v"
    cortex = nib.load(tmp_path / "maps/hemi-L_subj01_white.surf.gii")
    points, faces = cortex.agg_data()
    assert cortex.darrays[0].intent == nib.nifti1.intent_codes["NIFTI_INTENT_POINTSET"]
    assert cortex.darrays[1].intent == nib.nifti1.intent_codes["NIFTI_INTENT_TRIANGLE"]
    assert (points.shape, faces.shape) == ((162, 3), (320, 3))
    assert np.nanmedian(left.agg_data()) < -2
    assert np.nanmedian(right.agg_data()) > 2
    lateral = points[:, 0] < np.median(points[:, 0])
    assert np.nanmean(left.agg_data()[lateral]) < np.nanmean(left.agg_data()[~lateral])


def test_mni_as_nifti_runs_from_left_to_right(run: Path, tmp_path: Path) -> None:
    path, rois = export_maps(str(run), tmp_path / "maps", "nifti", space="MNI")
    assert rois.name == "subj01_roi.nii.gz"
    assert set(np.unique(nib.load(rois).get_fdata()[np.isfinite(nib.load(path).get_fdata())])) <= {1}
    image = nib.load(path)
    np.testing.assert_array_equal(image.affine[:3, 3], (-91, -126, -72))
    middle = image.get_fdata()[:, image.shape[1] // 2, image.shape[2] // 2]
    assert (np.diff(middle[np.isfinite(middle)]) >= 0).all()
    assert np.nanmin(middle) < -8
    assert np.nanmax(middle) > 8


def test_the_command_writes_mgz_of_the_native_surface(run: Path, tmp_path: Path) -> None:
    command = ["export", str(run), str(tmp_path / "maps"), "--to", "mgz", "--space", "nativesurface"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "lh.subj01_accuracy.mgz", "lh.subj01_roi.mgz", "rh.subj01_accuracy.mgz", "rh.subj01_roi.mgz",
    ]  # fmt: skip
    assert nib.load(tmp_path / "maps/lh.subj01_accuracy.mgz").shape == (173, 1, 1)


@pytest.mark.parametrize(("to", "space", "says"), [
    ("gifti", "MNI", "gifti files cannot hold MNI; write --to nifti or npz, or another --space"),
    ("nifti", "fsaverage", "nifti files cannot hold fsaverage; write --to gifti or npz or mgz, or another --space"),
    ("dicom", None, "unknown export format 'dicom'"),
    ("nifti", "Talairach", "unknown space 'Talairach'"),
])  # fmt: skip
def test_one_line_for(run: Path, tmp_path: Path, to: str, space: str | None, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        export_maps(str(run), tmp_path / "maps", to, space=space)
