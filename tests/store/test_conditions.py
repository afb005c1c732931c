"""Conditions of queries: hemisphere, repetition, category, and expressions that are never code."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import nsdflow
from nsdflow.errors import ConfigError, MissingDataError, SelectionError


def test_hemisphere_and_repetition(store, recording) -> None:
    whole = store.responses(1)
    for name, value in {"lh": 0, "rh": 1}.items():
        side = store.responses(1, hemisphere=name)
        i, j, k = (side[axis].values for axis in "ijk")
        assert (recording.hemisphere[i, j, k] == value).all()
        assert side.sizes["voxel"] == int((whole["hemisphere"] == value).sum())
    first = store.responses(1, repetition=0)
    assert len(np.unique(first["nsd_id"])) == len(first)
    assert store.responses(1, repetition=[1, 0])["repetition"].values.tolist()[-1] == 0
    with pytest.raises(SelectionError, match="unknown repetition 9; available: 0, 1"):
        store.responses(1, repetition=9)
    with pytest.raises(SelectionError, match=r"hemisphere='left': unknown value; write \"lh\", \"rh\" or None"):
        store.responses(1, hemisphere="left")


def test_a_prefix_of_labels(store, recording) -> None:
    """FFA means FFA-1 and FFA-2, in the atlas that has it."""
    faces = recording.faces.ravel()[store.voxels(1)["flat_index"].values]
    for name in ("FFA", "floc-faces:FFA", "floc_faces:FFA"):
        assert store.responses(1, roi=name).sizes["voxel"] == np.isin(faces, (2, 3)).sum()
    assert store.responses(1, roi="floc-faces:2").sizes["voxel"] == (faces == 2).sum()


def test_one_name_means_the_same_voxels_on_every_store(store, recording) -> None:
    """V1 of the joined ROI, and V1 of prf-visualrois alone, as in an evc store."""
    prf = recording.prf.ravel()[store.voxels(1)["flat_index"].values]
    roi = store.voxels(1)["roi"].values
    assert store.responses(1, roi="V1").sizes["voxel"] == np.isin(roi, (1, 2)).sum() > np.isin(prf, (1, 2)).sum()
    for query in ({"roi": "V1", "voxels": "evc"}, {"roi": "prf-visualrois:V1"}):
        np.testing.assert_array_equal(store.responses(1, **query)["prf_visualrois"] <= 2, True)
        assert store.responses(1, **query).sizes["voxel"] == np.isin(prf, (1, 2)).sum()


def test_rois_are_counted_by_hemisphere(store, recording) -> None:
    table = store.rois(1)
    assert {"V1", "V1v", "nsdgeneral", "floc_faces:FFA-1", "prf_visualrois:hV4"} <= set(table.index)
    assert 0 < (table["voxels"] > 0).sum() < len(table)
    for name in table.index:
        if not table.loc[name, "voxels"]:
            with pytest.raises(SelectionError, match=f"subj01 has no voxel in {re.escape(name)}; it has voxels in: V1"):
                store.responses(1, roi=name)
            continue
        assert table.loc[name, "voxels"] == store.responses(1, roi=name).sizes["voxel"]
        assert table.loc[name, "lh"] == store.responses(1, roi=name, hemisphere="lh").sizes["voxel"]
        assert table.loc[name, "lh"] + table.loc[name, "rh"] == table.loc[name, "voxels"]


def test_maps_have_units(store, recording) -> None:
    maps = store.maps(1)
    assert set(maps.data_vars) == {"ncsnr", "prf_eccentricity"}
    assert maps["prf_eccentricity"].attrs["units"] == "degree"
    expected = recording.eccentricity.ravel()[maps["flat_index"].values]
    np.testing.assert_array_equal(maps["prf_eccentricity"], expected)


@pytest.mark.parametrize(
    ("where", "by_hand"),
    [
        (
            "prf_eccentricity < 4.2 and ncsnr > 0.2 and RT < 1500",
            lambda t: (t.prf_eccentricity < 4.2) & (t.ncsnr > 0.2) & (t.rt < 1500),
        ),
        ("not (roi == 'V1' or roi == 'hV4')", lambda t: ~t.roi.isin([1, 2, 7])),
        ("roi in ('V1', 'V2d') and shared", lambda t: t.roi.isin([1, 2, 4]) & t.shared),
        ("floc_faces != 'FFA-1' and session not in [1, 2]", lambda t: (t.floc_faces != 2) & ~t.session.isin([1, 2])),
        ("0.1 < ncsnr <= 0.5", lambda t: (t.ncsnr > 0.1) & (t.ncsnr <= 0.5)),
        (
            "i + j * 2 - k / 2 >= 9 and hemisphere == 'rh'",
            lambda t: (t.i + t.j * 2 - t.k / 2 >= 9) & (t.hemisphere == 1),
        ),
        ("'lh' == hemisphere", lambda t: t.hemisphere == 0),
        ("repetition == 0 or session == 4", lambda t: (t.repetition == 0) | (t.session == 4)),
        (" nsd_id >= 30", lambda t: t.nsd_id >= 30),
    ],
)  # fmt: skip
def test_where_is_what_numpy_computes(store, where: str, by_hand) -> None:
    whole = store.responses(1).compute()
    mask = by_hand(whole)
    rows = mask.any("voxel").values if "voxel" in mask.dims and "trial" in mask.dims else mask.values
    found = store.responses(1, where=where)
    if set(mask.dims) == {"trial", "voxel"}:
        expected = whole.isel(trial=rows, voxel=mask.any("trial").values)
    else:
        expected = whole.isel({mask.dims[0]: mask.values})
    xr.testing.assert_identical(found.compute(), expected)
    assert store.explain(1, where=where).shape == expected.shape


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_where_against_python(store, data) -> None:
    """Random expressions, against Python itself voxel by voxel."""
    number = st.floats(-2, 2, allow_nan=False).map(lambda x: repr(round(x, 3)))
    name = st.sampled_from(["ncsnr", "i", "j"])
    term = st.one_of(name, number, st.builds("({} {} {})".format, name, st.sampled_from("+-*"), number))
    compare = st.builds("{} {} {}".format, name, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), term)
    condition = data.draw(
        st.recursive(
            compare, lambda c: st.builds("({} {} {})".format, c, st.sampled_from(["and", "or"]), c), max_leaves=4
        )
    )
    if data.draw(st.booleans()):
        condition = f"not {condition}"
    voxels = store.voxels(1)
    rows = zip(*(voxels[n].values.astype(float).tolist() for n in ("ncsnr", "i", "j")), strict=True)
    expected = [bool(eval(condition, {}, {"ncsnr": a, "i": b, "j": c})) for a, b, c in rows]
    found = store.responses(1, where=condition)
    np.testing.assert_array_equal(found["flat_index"], voxels["flat_index"].values[expected])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("__import__('os').system('true')", r"__import__\('os'\).system\('true'\). is not allowed; use names"),
        ("ncsnr.max() > 1", r"'ncsnr.max\(\)' is not allowed"),
        ("[x for x in (1,)]", "is not allowed"),
        ("(lambda: 1)() == 1", "is not allowed"),
        ("ncsnr[0] > 1", r"'ncsnr\[0\]' is not allowed"),
        ("2 ** 99999999 > ncsnr", r"'2 \*\* 99999999' is not allowed"),
        ("f'{ncsnr}' == 'a'", "is not allowed"),
        ("(x := 3) > 2", "is not allowed"),
        ("nscnr > 0.2", r"unknown coordinate in where: 'nscnr'; nearest: ncsnr"),
        ("ncsnr >", "invalid syntax; write for example"),
        ("", "invalid syntax; write for example"),
        ("ncsnr", "'ncsnr' is not a comparison of a coordinate"),
        ("1 < 2", "'1 < 2' is not a comparison of a coordinate"),
        ("ncsnr > session", "'ncsnr > session' is about trials and about voxels"),
        ("ncsnr > 0.2 or session == 1", "is about trials and about voxels; join conditions on both with and"),
        ("ncsnr > 'high'", "\"'high'\" cannot be compared so; labels are compared with == or in"),
        ("ncsnr == 'high'", "'ncsnr' has no labels, so it cannot be 'high'"),
        ("roi == 'V9'", "unknown label of roi 'V9'; nearest: VO2"),
        ("roi in 3", "'3' is not a list"),
        ("not ncsnr", "'ncsnr' is not true or false"),
        ("-shared == 1", "'shared' is not a number"),
        ("ncsnr is None", "is not allowed"),
        ("ncsnr > 0.2" + " and ncsnr > 0.2" * 300, "characters; a condition has at most 2000"),
        ("(" * 900 + "1" + ")" * 900, "where="),
        ("ncsnr > 0.2\0", "null bytes"),
        (3, "where=3: not a text"),
        ("ncsnr.__class__ == 1", r"'ncsnr.__class__' is not allowed"),
        ("'a' == 'a'", "has no labels, so it cannot be 'a'"),
        ("roi == ncsnr == 'V1'", "'ncsnr' has no labels, so it cannot be 'V1'"),
        ("-" * 1500 + "ncsnr > 1", "where"),
        ("(" * 150 + "ncsnr > 1" + ")" * 150 + " or ncsnr", "'ncsnr' is not true or false"),
    ],
)  # fmt: skip
def test_where_refuses_all_else_in_one_line(store, where, message: str) -> None:
    for ask in (store.responses, store.explain):
        with pytest.raises(SelectionError, match=message) as raised:
            ask(1, where=where)
        assert "\n" not in str(raised.value)


def test_every_condition_can_be_explained(store) -> None:
    asked, explained = (inspect.signature(f).parameters for f in (nsdflow.Store.responses, nsdflow.Store.explain))
    assert asked == explained


def test_annotations_come_back(store, annotations) -> None:
    found = store.annotations()
    assert found["category"].values.tolist() == ["apple", "dog"]
    assert found["captions"].sel(nsd_id=7).values.tolist() == ["Image 1: a café", ""]
    assert found["instance_category"].values.tolist() == ["dog", "apple"]
    for name in ("instances", "area", "box", "instance_nsd_id", "category_id"):
        np.testing.assert_array_equal(found[name], annotations[name])
        assert found[name].dtype == annotations[name].dtype
    assert found.sel(nsd_id=14, category="apple")["instances"] == 1
    assert found.attrs["licence"] == "CC BY 4.0"
    assert found["keypoint"].values.tolist() == ["nose", "tail"]
    np.testing.assert_array_equal(found["keypoints"], annotations["keypoints"])


def test_masks_are_read_on_request(store, images) -> None:
    """The apple covers the upper half of its image, the dog one pixel of a photograph of 40 x 42 pixels."""
    table = store.annotations(masks=True)
    assert "mask_code" not in table
    assert table["mask"].dtype == bool
    assert table["mask"].chunks is not None
    dog, apple = table["mask"].values
    assert dog.shape == images.shape[2:]
    assert apple[:4].all()
    assert not apple[5:].any()
    np.testing.assert_array_equal(table["y"], store.images()["y"])
    dog = store.annotations(masks=80)["mask"][0].values
    assert dog.shape == (80, 80)
    assert dog[0, :2].all()
    assert dog.sum() in (2, 4)
    with pytest.raises(ConfigError, match="masks is 'all'; write True, or a number of pixels such as 227"):
        store.annotations(masks="all")


def test_annotations_without_masks(annotations, recording, build_store, tmp_path) -> None:
    bare = build_store(tmp_path / "bare.zarr", recording, annotations=annotations.drop_vars(["mask_end", "mask_code"]))
    with pytest.raises(MissingDataError, match="annotations without masks; remove this folder and ingest"):
        bare.annotations(masks=True)


def test_categories_select_trials(store, recording, annotations, build_store, tmp_path) -> None:
    table = annotations.set_xindex("nsd_id").sel(nsd_id=recording.nsd_id)
    apple, dog = (table["instances"].values[:, column] > 0 for column in range(2))
    for category, expected in {
        "apple": apple, ("dog", "apple"): apple | dog, "animal": dog,
    }.items():  # fmt: skip
        found = store.responses(1, category=list(category) if isinstance(category, tuple) else category)
        np.testing.assert_array_equal(found["nsd_id"], recording.nsd_id[expected])
    large = store.responses(1, category={"dog": 0.5})
    np.testing.assert_array_equal(large["nsd_id"], recording.nsd_id[table["area"].values[:, 1] >= 0.5])
    with pytest.raises(SelectionError, match="unknown category 'aple'; available: apple, dog, animal, food"):
        store.responses(1, category="aple")
    with pytest.raises(SelectionError, match="unknown category 'dgo'; available: apple, dog") as raised:
        store.responses(1, category=["apple", "dgo"])
    assert "\n" not in str(raised.value)
    with pytest.raises(SelectionError, match="'much' is not a share of the image"):
        store.responses(1, category={"dog": "much"})
    bare = build_store(tmp_path / "bare.zarr", recording)
    with pytest.raises(MissingDataError, match="ingested without annotations; ingest again with --annotations"):
        bare.responses(1, category="dog")


def test_images_are_plotted_with_what_they_show(store, images) -> None:
    figure = store.plot_images([14, 0, 14], captions=True, boxes=True, columns=2)
    axes = [a for a in figure.axes if a.images]
    assert [a.get_title() for a in axes] == ["nsd_id 14", "nsd_id 0", "nsd_id 14"]
    np.testing.assert_array_equal(axes[0].images[0].get_array(), images[2].transpose(1, 2, 0))
    assert [t.get_text() for t in axes[0].texts] == ["apple", "Image 2: a café"]
    box = axes[1].patches[0]
    np.testing.assert_allclose([*box.get_xy(), box.get_width(), box.get_height()], [0.4, 1.3, 4.5, 5.4], rtol=1e-5)
    figure.savefig("/dev/null", format="png")


def test_a_notebook_shows_what_is_in_a_store(store) -> None:
    html = store._repr_html_()
    assert "1-2, 4" in html
    assert "23 images of 9 x 9 pixels" in html
    assert "space func1pt8mm" in html
    ceiling = float(np.nanmedian(store.responses(1).nsd.noise_ceiling(3)))
    assert f"{ceiling:.2f}" in html
    hostile = nsdflow.Store("<script>", (), {})
    assert "<script>" not in hostile._repr_html_()
