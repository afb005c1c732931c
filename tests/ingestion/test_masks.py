"""Voxel sets as NIfTI files: NSD's grid and affine, matching counts, and inclusion of the sets."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from nsdflow.errors import SelectionError
from nsdflow.ingestion.masks import describe_counts, write_masks
from nsdflow.nsd import layout
from nsdflow.nsd.voxels.masks import VOXEL_SETS


def test_masks_are_on_nsds_own_grid(small_nsd: Path, tmp_path: Path) -> None:
    counts = write_masks(str(small_nsd), tmp_path / "masks", subjects="2")
    assert counts["subject"].values.tolist() == ["subj02"]
    own = nibabel.load(small_nsd / layout.volume_path("subj02", "func1pt8mm", "brainmask"))
    masks = {}
    for name in VOXEL_SETS:
        image = nibabel.load(tmp_path / "masks" / f"subj02_{name}.nii.gz")
        np.testing.assert_allclose(image.affine, own.affine)
        masks[name] = np.asarray(image.dataobj)
        assert masks[name].shape == own.shape
        assert set(np.unique(masks[name])) <= {0, 1}
        assert masks[name].sum() == counts.sel(subject="subj02", set=name)
    np.testing.assert_array_equal(masks["brain"] > 0, np.asarray(own.dataobj) > 0)
    assert (masks["evc"] <= masks["visual"]).all()
    assert (masks["visual"] <= masks["tight"]).all()
    assert (masks["tight"] <= masks["inflated"]).all()
    assert f"{int(masks['evc'].sum()):,}" in describe_counts(counts)
    assert not [path for path in (tmp_path / "masks").iterdir() if path.name.startswith(".")]


def test_all_subjects_and_no_surface(small_nsd: Path, tmp_path: Path) -> None:
    wrapped, open_ended = (write_masks(str(small_nsd), tmp_path / str(wrap), wrap=wrap) for wrap in (True, False))
    assert wrapped["subject"].values.tolist() == ["subj01", "subj02"]
    assert (open_ended.sel(set="inflated") <= wrapped.sel(set="inflated")).all()
    with pytest.raises(SelectionError, match="has no volumes of atlases"):
        write_masks(str(small_nsd), tmp_path, space="fsaverage")
