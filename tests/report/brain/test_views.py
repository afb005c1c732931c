"""Views: the voxel of each pixel, compared with the positions of voxels, and the figures made from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.report.brain import best_view, draw_map, flat_view, slice_view, surface_view
from nsdflow.report.brain.maps import brain_maps, centres_in_degrees, layer_shares


def test_a_flat_map_has_left_on_the_left_and_the_occipital_poles_in_the_middle(subject: xr.Dataset) -> None:
    view = flat_view(subject)
    middle = view.voxel.shape[1] // 2
    x = view.image(subject["accuracy"].values)
    assert (x[:, :middle][np.isfinite(x[:, :middle])] < 0).all()
    assert (x[:, middle:][np.isfinite(x[:, middle:])] > 0).all()
    # V1 lies at the occipital pole: nearer to the middle than the other voxels of vision
    columns = np.abs(np.arange(view.voxel.shape[1]) - middle)[None].repeat(len(view.voxel), axis=0)
    v1 = view.image(np.isin(subject["roi"].values, (1, 2)), 0) > 0
    seen = view.voxel >= 0
    assert v1.sum() > 500
    assert columns[v1].mean() < 0.6 * columns[seen].mean()
    # the ventral half of V1 (label 1) is below the dorsal one (2); rows count from the top
    rows = np.arange(len(view.voxel))[:, None].repeat(view.voxel.shape[1], axis=1)
    ventral, dorsal = (view.image(subject["roi"].values == label, 0) > 0 for label in (1, 2))
    assert rows[ventral].mean() > rows[dorsal].mean() + 20
    assert np.nanmin(view.underlay) < np.nanmax(view.underlay), "sulci and gyri"


def test_the_surface_shows_the_same_voxels_from_the_right_sides(subject: xr.Dataset) -> None:
    view = surface_view(subject, sides=("lateral", "medial"))
    rows, columns = np.nonzero(view.voxel >= 0)
    top = rows < view.voxel.shape[0] / 2
    x = subject["accuracy"].values[view.voxel[rows, columns]]
    assert (x[top] < 0).all(), "the left hemisphere is above"
    assert (x[~top] > 0).all()
    # the lateral view of the left hemisphere has its occipital pole on the right
    lateral = top & (columns < view.voxel.shape[1] / 2)
    assert np.median(columns[lateral]) > view.voxel.shape[1] / 4


def test_slices_need_no_files(subject: xr.Dataset) -> None:
    view = slice_view(subject.assign_attrs(source="/nowhere"))
    j = view.image(subject["j"].values.astype(float))
    column = np.flatnonzero(np.isfinite(j).sum(axis=0) > 5)[0]
    values = j[:, column][np.isfinite(j[:, column])]
    assert values[0] >= values[-1], "the front is up"


def test_without_a_patch_slices_are_drawn_and_the_note_says_so(subject: xr.Dataset, nsd: Path, tmp_path: Path) -> None:
    copy = tmp_path / "nsd"
    shutil.copytree(nsd, copy)
    (copy / "nsddata/freesurfer/subj01/surf/rh.full.flat.patch.3d").unlink()
    bare = subject.assign_attrs(source=str(copy))
    with pytest.raises(MissingDataError, match=r"rh\.full\.flat\.patch\.3d: no such file"):
        flat_view(bare)
    assert best_view(bare).note.startswith("Slices of func1pt8mm of subj01")
    assert "rh.full.flat.patch.3d: no such file" in best_view(bare).note
    assert best_view(subject).note.startswith("Flat maps of subj01")


def test_surfaces_of_another_subject_get_one_line(subject: xr.Dataset) -> None:
    native = subject["accuracy"].assign_attrs(subject.attrs).nsd.to_space("nativesurface", missing="ignore")
    assert flat_view(native).voxel.max() > 100
    wrong = native.assign_attrs(space="fsaverage")
    with pytest.raises(SourceError, match="surfaces of 642 \\+ 642 vertices where the data have 653 \\+ 649"):
        flat_view(wrong)


def test_maps_of_a_run(subject: xr.Dataset) -> None:
    maps = {found.name: found for found in brain_maps(subject)}
    assert set(maps) == {
        "accuracy", "accuracy over ceiling", "noise ceiling", "preferred layer", "eccentricity, model",
        "eccentricity, NSD",
    }  # fmt: skip
    np.testing.assert_allclose(maps["accuracy over ceiling"].values, 2 * subject["accuracy"])
    np.testing.assert_array_equal(maps["preferred layer"].values, subject["flat_index"] % 3)
    assert maps["preferred layer"].categories == ("a", "b", "c")
    np.testing.assert_allclose(maps["eccentricity, model"].values, maps["eccentricity, NSD"].values)
    shares = layer_shares(subject)
    assert shares is not None
    np.testing.assert_allclose(shares[0].sum(axis=1), 1)


def test_a_pooling_field_has_a_centre(subject: xr.Dataset) -> None:
    logits = np.full((2, 7, 7), 0.0)
    logits[0, 1, 5] = logits[1, 3, 3] = 9.0  # above and to the right of the middle; the middle
    data = xr.Dataset({"pooling_logits_0": (("voxel", "y", "x"), logits)})
    centres = centres_in_degrees(data)
    assert centres is not None
    x, y = centres
    np.testing.assert_allclose(x, [2 / 7 * 8.4, 0], atol=0.05)
    np.testing.assert_allclose(y, [2 / 7 * 8.4, 0], atol=0.05)


def test_figures_have_outlines_names_and_a_colour_bar(subject: xr.Dataset) -> None:
    accuracy = subject["accuracy"].assign_attrs(subject.attrs)
    figure = accuracy.nsd.plot_flat(limits=(0, 1), label="r")
    axes, bar = figure.axes
    names = {text.get_text() for text in axes.texts}
    assert {"lh", "rh", "V1", "V2", "V3", "hV4"} <= names
    assert bar.get_ylabel() == "r"
    assert len(axes.images) == 2
    assert accuracy.nsd.plot_surface().axes[0].images
    assert accuracy.nsd.plot_slices(rois=None).axes[0].images
    legend = draw_map(flat_view(subject), np.zeros(subject.sizes["voxel"]), categories=("one", "two")).axes[0]
    assert [text.get_text() for text in legend.get_legend().get_texts()] == ["one", "two"]


def test_fsaverage_without_nsds_patches_is_drawn_on_nilearns_fsaverage5(tmp_path: Path) -> None:
    """Its vertices are the first of fsaverage; each pixel shows the value of the vertex nearest to it."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_mesh

    (tmp_path / "nsddata").mkdir()
    count = 40962
    flat = np.arange(2 * count)
    values = np.concatenate([flat[:count], -flat[:count]]).astype(float)
    array = xr.DataArray(
        values,
        {"flat_index": ("voxel", flat, {"shape": [count, count]})},
        ("voxel",),
        attrs={"subject": "subj01", "space": "fsaverage", "source": str(tmp_path)},
    )
    view = flat_view(array)
    assert "nilearn's fsaverage5" in view.note
    assert "full.flat.patch.3d" in view.note
    shown = view.image(values)
    middle = view.voxel.shape[1] // 2
    assert np.nanmin(shown[:, :middle]) >= 0 >= np.nanmax(shown[:, middle:])
    assert np.nanmax(np.abs(shown)) < 10242
    mesh = load_surf_mesh(fetch_surf_fsaverage("fsaverage5")["flat_left"])
    inside = np.unique(mesh.faces)
    assert set(np.unique(view.voxel[:, :middle])) - {-1} <= set(inside.tolist())
    # the vertex at the far left of the flat map is near the left border of the picture
    first = inside[mesh.coordinates[inside, 0].argmin()]
    columns = np.flatnonzero((view.voxel == first).any(axis=0))
    assert columns.max() < 40
    few = array.isel(voxel=slice(0, 642)).assign_coords(flat_index=("voxel", flat[:642], {"shape": [321, 321]}))
    with pytest.raises(MissingDataError, match=r"full\.flat\.patch\.3d"):
        flat_view(few)
