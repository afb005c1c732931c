"""Atlases with their label tables, and the voxel sets made from them."""

from __future__ import annotations

import gzip
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import convolve1d

from nsdflow.errors import SelectionError, SourceError
from nsdflow.names import ROI_LABELS
from nsdflow.nsd.layout import roi_paths
from nsdflow.nsd.source import open_source
from nsdflow.nsd.voxels.masks import inflate, voxel_set
from nsdflow.nsd.voxels.rois import joined_roi, list_atlases, read_atlas, read_labels

SPACE = "func1pt8mm"
ATLASES = ("Kastner2015", "MTL", "aseg", "nsdgeneral", "prf-visualrois")


def test_atlases_are_found(nsd: Any) -> None:
    source = open_source(nsd.root)
    assert list_atlases(source, "subj01", SPACE) == ATLASES
    # MTL has no table among the labels of the surface, prfR2 is a map
    assert list_atlases(source, "subj01", "nativesurface") == ("Kastner2015", "nsdgeneral", "prf-visualrois")
    assert list_atlases(source, "subj01", "fsaverage") == ()


def test_integers_on_a_surface_are_an_atlas_without_a_table(broken: Any) -> None:
    folder = broken.root / "nsddata/freesurfer/subj01/label"
    for number, name in enumerate(("mine", "float", "prfR2", "probmap_V1v")):
        for half in ("lh", "rh"):
            stored = nib.load(folder / f"{half}.nsdgeneral.mgz")
            kind = np.float32 if name == "float" else np.int32
            values = np.asanyarray(stored.dataobj).astype(kind) * (number + 7)
            nib.save(nib.freesurfer.MGHImage(values, stored.affine), folder / f"{half}.{name}.mgz")
    (folder / "lh.half.mgz").write_bytes((folder / "lh.mine.mgz").read_bytes())
    source = open_source(broken.root)
    known = ("Kastner2015", "mine", "nsdgeneral", "prf-visualrois")
    assert list_atlases(source, "subj01", "nativesurface") == known
    assert read_atlas(source, "subj01", "mine", "nativesurface").labels == {7: "7"}
    (folder / "lh.float.mgz").write_bytes(b"no header")
    assert "float" in list_atlases(source, "subj01", "nativesurface"), "whoever reads it says what is wrong"


def test_segmentations_of_freesurfer_are_atlases_with_its_names(nsd: Any) -> None:
    found = read_atlas(open_source(nsd.root), "subj02", "aseg", SPACE, shape=nsd.shape)
    np.testing.assert_array_equal(found.values, nsd.volumes["subj02", "aseg"])
    known = {2: "Left-Cerebral-White-Matter", 42: "Right-Cerebral-Cortex", 16: "Brain-Stem", 54: "Right-Amygdala"}
    assert known.items() <= found.labels.items()
    assert found.labels.keys() >= set(np.unique(found.values[found.values > 0]).tolist())


@pytest.mark.parametrize("atlas", [atlas for atlas in ATLASES if atlas != "aseg"])
def test_values(nsd: Any, atlas: str) -> None:
    found = read_atlas(open_source(nsd.root), "subj02", atlas, SPACE, shape=nsd.shape)
    assert found.values.dtype == np.int16
    np.testing.assert_array_equal(found.values, nsd.rois["subj02", atlas])
    stored = nib.load(nsd.root / roi_paths("subj02", atlas, SPACE)[0])
    np.testing.assert_array_equal(found.values, np.asanyarray(stored.dataobj))


def test_surface_values_are_left_then_right(nsd: Any) -> None:
    found = read_atlas(open_source(nsd.root), "subj01", "prf-visualrois", "nativesurface", shape=nsd.vertices)
    wanted = [nsd.rois["subj01", f"{hemisphere}.prf-visualrois"] for hemisphere in ("lh", "rh")]
    np.testing.assert_array_equal(found.values, np.concatenate(wanted))
    assert found.labels == nsd.labels["prf-visualrois"]


def test_labels(nsd: Any) -> None:
    source = open_source(nsd.root)
    assert read_atlas(source, "subj01", "prf-visualrois", SPACE).labels == nsd.labels["prf-visualrois"]
    assert read_labels(source, "subj01", "MTL") == {0: "Unknown", 1: "CA1", 2: "CA2/3"}
    # labels without a name are called by their number; names without a voxel stay
    kastner = read_atlas(source, "subj01", "Kastner2015", SPACE).labels
    present = {int(value) for value in np.unique(nsd.rois["subj01", "Kastner2015"]) if value > 0}
    named = {1: "V1v", 8: "VO1", 12: "TO2", 25: "FEF"}
    assert kastner == {value: named.get(value, str(value)) for value in sorted(present | set(named))}


def test_labels_without_table(broken: Any) -> None:
    (broken.root / "nsddata/freesurfer/subj01/label/nsdgeneral.mgz.ctab").unlink()
    source = open_source(broken.root)
    assert read_labels(source, "subj01", "nsdgeneral") == {}
    assert read_atlas(source, "subj01", "nsdgeneral", SPACE).labels == {1: "nsdgeneral"}
    table = broken.root / "nsddata/freesurfer/fsaverage/label/nsdgeneral.mgz.ctab"
    table.parent.mkdir(parents=True)
    table.write_text("0 Unknown\n1 nsdgeneral\n")
    assert read_atlas(source, "subj01", "nsdgeneral", SPACE).labels == {1: "nsdgeneral"}


def test_joined(nsd: Any) -> None:
    joined = joined_roi(open_source(nsd.root), "subj01", SPACE)
    kastner, early = nsd.rois["subj01", "Kastner2015"], nsd.rois["subj01", "prf-visualrois"]
    for place in np.ndindex(nsd.shape):
        assert joined.values[place] == (early[place] if early[place] > 0 else kastner[place])
    assert joined.labels == ROI_LABELS


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("evc", lambda r, v: r["prf-visualrois"] > 0),
        ("visual", lambda r, v: (r["prf-visualrois"] > 0) | (r["Kastner2015"] > 0)),
        ("nsdgeneral", lambda r, v: r["nsdgeneral"] > 0),
        ("brain", lambda r, v: v["brainmask"] > 0),
        ("tight", lambda r, v: (v["aseg"] != 0) | (r["nsdgeneral"] == 1) | (r["Kastner2015"] >= 0)),
        ("Kastner2015", lambda r, v: r["Kastner2015"] > 0),
        ("MTL", lambda r, v: r["MTL"] > 0),
    ],
)
def test_voxel_sets(nsd: Any, name: str, wanted: Any) -> None:
    rois = {atlas: values for (subject, atlas), values in nsd.rois.items() if subject == "subj02"}
    volumes = {volume: values for (subject, volume), values in nsd.volumes.items() if subject == "subj02"}
    found = voxel_set(open_source(nsd.root), "subj02", name, shape=nsd.shape)
    assert found.dtype == bool
    assert 0 < found.sum() < found.size
    np.testing.assert_array_equal(found, wanted(rois, volumes))


@pytest.mark.parametrize("wrap", [True, False])
def test_inflated_set(nsd: Any, wrap: bool) -> None:
    source = open_source(nsd.root)
    tight = voxel_set(source, "subj01", "tight")
    np.testing.assert_array_equal(voxel_set(source, "subj01", "inflated", wrap=wrap), inflate(tight, wrap=wrap))


@given(mask=arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)), wrap=st.booleans())
def test_inflation_is_a_separable_convolution(mask: np.ndarray, wrap: bool) -> None:
    weight = mask.astype(float)
    for axis in range(3):
        weight = convolve1d(weight, [0.5, 1, 0.5], axis=axis, mode="wrap" if wrap else "constant")
    np.testing.assert_array_equal(inflate(mask, wrap=wrap), weight >= 1)
    assert (inflate(mask, wrap=wrap) >= mask).all()


def test_inflation_by_hand() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[0, 2, 2] = mask[2, 2, 2] = True
    assert inflate(mask)[1, 2, 2]  # half from either side
    assert not inflate(mask)[0, 1, 2]
    mask[4, 2, 2] = mask[4, 3, 2] = mask[0, 3, 2] = True
    corner = np.zeros((5, 5, 5), bool)
    corner[0, 0, 0] = corner[4, 1, 0] = True
    assert not inflate(corner, wrap=False)[0, 1, 0]
    assert inflate(corner, wrap=True)[0, 1, 0]


def test_surface_sets(nsd: Any) -> None:
    source = open_source(nsd.root)
    options: dict[str, Any] = {"space": "nativesurface", "shape": nsd.vertices}
    parts = {
        atlas: np.concatenate([nsd.rois["subj01", f"{side}.{atlas}"] for side in ("lh", "rh")])
        for atlas in ("prf-visualrois", "Kastner2015")
    }
    early, kastner = parts["prf-visualrois"] > 0, parts["Kastner2015"] > 0
    np.testing.assert_array_equal(voxel_set(source, "subj01", "evc", **options), early)
    np.testing.assert_array_equal(voxel_set(source, "subj01", "visual", **options), early | kastner)
    with pytest.raises(
        SelectionError, match="'inflated'; available: evc, visual, nsdgeneral, Kastner2015, prf-visualrois"
    ):
        voxel_set(source, "subj01", "inflated", space="nativesurface")


def test_unknown_set_lists_all(nsd: Any) -> None:
    with pytest.raises(
        SelectionError,
        match="unknown voxel set of subj01 in func1pt8mm 'V1'; available: evc, visual, nsdgeneral, tight, inflated, "
        "brain, Kastner2015, MTL, aseg, prf-visualrois",
    ):
        voxel_set(open_source(nsd.root), "subj01", "V1")


def test_unknown_atlas_lists_all(nsd: Any) -> None:
    with pytest.raises(SelectionError, match=f"unknown atlas of subj01 .*available: {', '.join(ATLASES)}"):
        read_atlas(open_source(nsd.root), "subj01", "HCP_MMP1", SPACE)


@pytest.mark.parametrize("read", [read_atlas, lambda *a, **k: voxel_set(a[0], a[1], "evc", space=a[3], **k)])
def test_other_grid(nsd: Any, read: Any) -> None:
    path = nsd.root / roi_paths("subj01", "prf-visualrois", SPACE)[0]
    with pytest.raises(SourceError, match=f"^{path}: a grid of 5 x 7 x 6 where the betas have 6 x 7 x 5"):
        read(open_source(nsd.root), "subj01", "prf-visualrois", SPACE, shape=(6, 7, 5))


def test_two_grids_are_not_joined(broken: Any) -> None:
    path = broken.root / roi_paths("subj01", "prf-visualrois", SPACE)[0]
    image = nib.Nifti1Image(np.zeros((5, 7, 5)), np.eye(4))
    path.write_bytes(gzip.compress(image.to_bytes()))
    source = open_source(broken.root)
    with pytest.raises(SourceError, match=f"^{path}: a grid of 5 x 7 x 5 where the betas have 5 x 7 x 6"):
        voxel_set(source, "subj01", "visual", shape=broken.shape)
    with pytest.raises(SourceError, match=rf"^{path}: a grid of \(5, 7, 5\) where Kastner2015 has \(5, 7, 6\)"):
        voxel_set(source, "subj01", "visual")


@pytest.mark.parametrize("value", [0.5, np.nan, 40000.0])
def test_values_that_are_not_labels(broken: Any, value: float) -> None:
    path = broken.root / roi_paths("subj01", "nsdgeneral", SPACE)[0]
    values = np.zeros((5, 7, 6))
    values[1, 2, 3] = value
    path.write_bytes(gzip.compress(nib.Nifti1Image(values, np.eye(4)).to_bytes()))
    with pytest.raises(SourceError, match=f"^{path}: values that are not labels"):
        read_atlas(open_source(broken.root), "subj01", "nsdgeneral", SPACE)


def test_broken_label_table(broken: Any) -> None:
    path = broken.root / "nsddata/freesurfer/subj01/label/nsdgeneral.mgz.ctab"
    path.write_text("0 Unknown\n\nnsdgeneral 1\n")
    with pytest.raises(SourceError, match=f"^{path}: line 3 is 'nsdgeneral 1'"):
        read_atlas(open_source(broken.root), "subj01", "nsdgeneral", SPACE)
    path.write_bytes(b"0 Unknown\n1 nsdgen" + bytes(512))
    with pytest.raises(SourceError, match=f"^{path}: a table of numbers and names with zero bytes"):
        read_atlas(open_source(broken.root), "subj01", "nsdgeneral", SPACE)
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SourceError, match=f"^{path}: not a table of numbers and names"):
        read_atlas(open_source(broken.root), "subj01", "nsdgeneral", SPACE)


def test_files_that_macos_leaves_are_no_atlases(broken: Any) -> None:
    (broken.root / roi_paths("subj01", "._Kastner2015", SPACE)[0]).write_bytes(b"\0\5\x16\7")
    assert list_atlases(open_source(broken.root), "subj01", SPACE) == ATLASES


def test_without_the_areas_drawn_for_the_subject_the_atlas_alone_is_the_visual_set(broken: Any) -> None:
    """As in fsaverage, which has no areas of a single subject."""
    (broken.root / roi_paths("subj01", "prf-visualrois", SPACE)[0]).unlink()
    source = open_source(broken.root)
    kastner = read_atlas(source, "subj01", "Kastner2015", SPACE).values
    np.testing.assert_array_equal(joined_roi(source, "subj01", SPACE).values, kastner)
    np.testing.assert_array_equal(voxel_set(source, "subj01", "visual"), kastner > 0)
    with pytest.raises(SelectionError, match="unknown voxel set of subj01 in func1pt8mm 'evc'; available: visual, "):
        voxel_set(source, "subj01", "evc")
