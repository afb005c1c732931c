"""Synthetic annotations match the pixels, and planted responses to them can be recovered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nsdflow.nsd.annotations import annotation_table, cropped_images, decode_rle, resize_mask
from nsdflow.nsd.design import read_stimulus_info
from nsdflow.nsd.source import open_source
from nsdflow.synthetic import SyntheticSpec, planted_signal, read_truth, write_nsd
from nsdflow.synthetic.experiment.scenes import CATEGORIES, Scene, category_areas

NAMES = [category.name for category in CATEGORIES]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SyntheticSpec]:
    spec = SyntheticSpec(
        subjects=1, sessions=1, trials_per_session=180, image_size=64, annotations=True, formats=("nii.gz",), seed=3
    )
    return write_nsd(tmp_path_factory.mktemp("annotated") / "nsd", spec), spec


@pytest.fixture(scope="module")
def table(annotated: tuple[Path, SyntheticSpec]) -> xr.Dataset:
    folder, _ = annotated
    info = read_stimulus_info(open_source(folder))
    assert info is not None
    return annotation_table(open_source(folder / "coco/annotations"), cropped_images(info))


def test_areas_are_those_of_the_pixels(annotated, table) -> None:
    _, spec = annotated
    areas = category_areas(spec.seed, range(spec.image_count), spec.image_size)
    np.testing.assert_allclose(areas.sum(axis=1), 1, rtol=1e-5)
    assert sorted(table["category"].values) == sorted(NAMES)
    np.testing.assert_allclose(table["area"].sel(category=NAMES), areas, atol=1e-6)
    assert (areas.std(axis=0) > 0.01).all()
    assert (table["instances"].values == 0).any(axis=0).any()


def test_every_mask_shows_one_leaf_or_several_of_one_category(annotated, table) -> None:
    _, spec = annotated
    codes, ends = table["mask_code"].values.tobytes(), [0, *table["mask_end"].values.tolist()]
    scenes = {image: Scene.of(spec.seed, image, spec.image_size) for image in range(20)}
    for number, image in enumerate(table["instance_nsd_id"].values.tolist()):
        if image not in scenes:
            break
        mask = decode_rle(codes[ends[number] : ends[number + 1]], spec.image_size, spec.image_size)
        scene = scenes[image]
        leaves = np.unique(scene.labels[mask])
        name = NAMES.index(table["instance_category"].values[number])
        assert set(scene.category[leaves]) == {name}
        assert (np.isin(scene.labels, leaves) == mask).all()
        assert len(leaves) == 1 or table["crowd"].values[number] or CATEGORIES[name].stuff
    assert number > 100
    assert table["crowd"].values.any()
    assert resize_mask(mask, 32).shape == (32, 32)


def test_the_files_have_what_is_hard_in_cocos(annotated, table) -> None:
    folder, _ = annotated
    files = {path.stem: json.loads(path.read_text()) for path in (folder / "coco/annotations").iterdir()}
    assert len(files) == 8
    things = files["instances_train2017"]
    polygons = [one["segmentation"] for one in things["annotations"] if not one["iscrowd"]]
    assert max(len(parts) for parts in polygons) > 1
    assert all(isinstance(one["segmentation"]["counts"], list) for one in things["annotations"] if one["iscrowd"])
    assert all(isinstance(one["segmentation"]["counts"], str) for one in files["stuff_train2017"]["annotations"][:-1])
    ids = [category["id"] for category in things["categories"]]
    assert np.diff(ids).max() > 1
    cut_away = len(things["annotations"]) + len(files["instances_val2017"]["annotations"]) - 2
    things_left = [not CATEGORIES[NAMES.index(name)].stuff for name in table["instance_category"].values]
    assert 0 < cut_away - sum(things_left) <= table.sizes["image"], "a leaf in the margin of each photograph"
    texts = table["captions"].values
    assert (texts != "").all()
    assert "×" in texts[0, 0]
    assert table["keypoint"].values.tolist() == ["centre", "tip", "base"]
    marked = table.isel(instance=table["person_instance"].values)
    assert set(marked["instance_category"].values) == {"bright leaf"}
    at = table["keypoints"].values[table["keypoint_visible"].values == 2]
    assert ((at >= 0) & (at < 1)).all()


def test_areas_of_the_localizer_respond_to_categories(annotated) -> None:
    folder, spec = annotated
    truth = read_truth(folder, 1)
    weights = truth["category_weights"].values
    driven = weights.any(axis=1)
    assert 0.05 < driven.mean() < 0.6
    assert (truth["roi"].values[driven] > 7).sum() + (truth["roi"].values[driven] <= 0).sum() == driven.sum()
    signal, ids = truth["signal"].values, truth["nsd_id"].values
    areas = category_areas(spec.seed, ids.tolist(), spec.image_size)
    of_categories = areas @ weights[driven].T
    assert np.median(of_categories.var(axis=0)) == pytest.approx(0.7, abs=0.15)
    # ordinary least squares on the areas (without one, since they add up to 1) finds the strongest one again
    design = np.column_stack([np.ones(len(areas)), areas])
    found = np.linalg.lstsq(design, signal[:, driven], rcond=None)[0][1:] * areas.std(axis=0)[:, None]
    best = (weights[driven] * areas.std(axis=0)).argmax(axis=1)
    assert (found.argmax(axis=0) == best).mean() > 0.95
    np.testing.assert_allclose(planted_signal(folder, 1, ids[:9].tolist()), signal[:9], atol=1e-4)


def test_nothing_is_annotated_unless_asked_for(nsd) -> None:
    assert not (nsd / "coco").exists()
    assert not read_truth(nsd, 1)["category_weights"].values.any()
