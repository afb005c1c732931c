"""COCO's annotations in NSD's crops, on files written here with known shapes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.nsd.annotations import (
    CroppedImage,
    annotation_mask,
    annotation_table,
    cropped_images,
    decode_rle,
    encode_rle,
    resize_mask,
)
from nsdflow.nsd.source import open_source

HEIGHT, WIDTH = 40, 60
CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
]
#: A square of 40 pixels from the left third on: columns 10 to 50.
IMAGE = CroppedImage(nsd_id=7, coco_id=111, split="train2017", crop=(0.0, 0.0, 10 / 60, 10 / 60))

#: Polygons in an image of (height, width), and the run-length code that pycocotools 2.0.11 gives for their union.
DRAWN = json.loads((Path(__file__).parent / "pycocotools_polygons.json").read_text())


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def write(folder: Path, kind: str, annotations: list[dict[str, Any]], image: int = 111, **other: Any) -> None:
    content = {
        "info": {"year": 2017},
        "images": [{"id": image, "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": image, "id": n, **annotation} for n, annotation in enumerate(annotations)],
        "categories": CATEGORIES if kind != "captions" else [],
    }
    (folder / f"{kind}_train2017.json").write_text(json.dumps(content | other))


def table_of(folder: Path, *images: CroppedImage) -> xr.Dataset:
    return annotation_table(open_source(folder), images or [IMAGE])


def masks_of(table: xr.Dataset) -> list[np.ndarray]:
    codes, ends = table["mask_code"].values.tobytes(), [0, *table["mask_end"].values.tolist()]
    sizes = table["mask_size"].values.tolist()
    return [decode_rle(codes[a:b], *size) for a, b, size in zip(ends, ends[1:], sizes, strict=False)]


def test_instances_are_moved_into_the_crop_clipped_and_dropped(tmp_path: Path) -> None:
    write(tmp_path, "instances", [
        {"category_id": 1, "segmentation": rectangle(20, 10, 40, 30)},  # whole, 20 x 20
        {"category_id": 1, "segmentation": rectangle(0, 0, 20, 40)},  # its right half is left
        {"category_id": 18, "segmentation": rectangle(0, 0, 10, 40)},  # outside
        {"category_id": 18, "segmentation": rectangle(0, 0, 11, 10)},  # a tenth less a bit is left: dropped
    ])  # fmt: skip
    write(tmp_path, "captions", [{"caption": " A person. "}, {"caption": "Two persons,\nnäher ❤."}])
    table = table_of(tmp_path)
    assert table["category"].values.tolist() == ["person", "dog"]
    assert table["category_id"].values.tolist() == [1, 18]
    assert table["instances"].values.tolist() == [[2, 0]]
    # 400 + 400 pixels of 1,600
    np.testing.assert_array_equal(table["area"].values, [[0.5, 0]])
    np.testing.assert_array_equal(table["box"].values, [[0.25, 0.25, 0.5, 0.5], [0, 0, 0.25, 1]])
    np.testing.assert_array_equal(table["instance_kept"].values, [1, 0.5])
    np.testing.assert_array_equal(table["instance_area"].values, [0.25, 0.25])
    assert table["captions"].values.tolist() == [["A person.", "Two persons, näher ❤.", "", "", ""]]
    assert table["nsd_id"].values.tolist() == [7]
    whole, half = masks_of(table)
    assert whole[10:30, 10:30].all()
    assert whole.sum() == half.sum() == 400
    assert half[:, :10].all()


def test_the_area_of_a_category_is_that_of_the_union(tmp_path: Path) -> None:
    """Parts of a polygon, a hole, overlapping instances, a crowd as a code, stuff; none is counted twice."""
    crowd = np.zeros((HEIGHT, WIDTH), int)
    crowd[0:8, 10:20] = 1
    runs = np.diff(np.flatnonzero(np.diff(crowd.T.ravel(), prepend=0, append=1 - crowd.T.ravel()[-1])), prepend=0)
    write(tmp_path, "instances", [
        {"category_id": 1, "segmentation": [*rectangle(10, 0, 20, 4), *rectangle(30, 0, 40, 4)]},
        {"category_id": 18, "segmentation": rectangle(10, 10, 20, 20)},
        {"category_id": 1, "segmentation": {"counts": runs.tolist(), "size": [HEIGHT, WIDTH]}, "iscrowd": 1},
    ])  # fmt: skip
    sky = np.zeros((HEIGHT, WIDTH), bool)
    sky[:2] = True
    write(tmp_path, "stuff", [
        {"category_id": 157, "segmentation": {"counts": encode_rle(sky).decode(), "size": [HEIGHT, WIDTH]}}
    ], categories=[{"id": 157, "name": "sky-other", "supercategory": "sky"}])  # fmt: skip
    table = table_of(tmp_path)
    assert table["category"].values.tolist() == ["person", "dog", "sky-other"]
    assert table["instances"].values.tolist() == [[2, 1, 1]]
    np.testing.assert_allclose(table["area"].values[0], [(80 + 80 - 40) / 1600, 100 / 1600, 80 / 1600])
    assert table["crowd"].values.tolist() == [False, False, True, False]
    assert table["instance_category"].values.tolist() == ["person", "dog", "person", "sky-other"]


def test_keypoints_follow_their_person(tmp_path: Path) -> None:
    person = {"category_id": 1, "segmentation": rectangle(20, 10, 40, 30), "id": 5}
    lost = {"category_id": 1, "segmentation": rectangle(0, 0, 9, 9), "id": 6}
    write(tmp_path, "instances", [person, lost])
    points = [30, 20, 2, 5, 5, 2, 0, 0, 0]  # seen; cut away; never marked
    people = [{**lost, "keypoints": points, "num_keypoints": 2}, {**person, "keypoints": points, "num_keypoints": 2}]
    names = [{**CATEGORIES[0], "keypoints": ["nose", "left_eye", "right_eye"]}]
    write(tmp_path, "person_keypoints", people, categories=names)
    table = table_of(tmp_path)
    assert table["keypoint"].values.tolist() == ["nose", "left_eye", "right_eye"]
    assert table["person_instance"].values.tolist() == [0]
    np.testing.assert_allclose(table["keypoints"].values[0], [[0.5, 0.5], [np.nan] * 2, [np.nan] * 2])
    assert table["keypoint_visible"].values.tolist() == [[2, 0, 0]]


def test_each_image_is_described_by_the_files_of_its_split(tmp_path: Path) -> None:
    """Annotations of one image are scattered in the file, and images may follow them."""
    images = [CroppedImage(nsd, nsd + 100, "train2017" if nsd % 2 else "val2017", (0, 0, 0, 0)) for nsd in range(8)]
    for split in ("train2017", "val2017"):
        own = [image for image in images if image.split == split]
        marks = [{"image_id": image.coco_id, "category_id": 18, "segmentation": rectangle(0, 0, 1 + image.nsd_id, 10)}
                 for image in own if image.nsd_id != 4 for _ in range(2)]  # fmt: skip
        random.Random(0).shuffle(marks)
        content = {"categories": CATEGORIES, "annotations": marks,
                   "images": [{"id": image.coco_id, "height": 10, "width": 10} for image in own]}  # fmt: skip
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(content))
    table = table_of(tmp_path, *images[::-1])
    assert table["nsd_id"].values.tolist() == list(range(8))
    counts = 2 * (np.arange(8) != 4)
    np.testing.assert_array_equal(table["instances"].values[:, 1], counts)
    np.testing.assert_allclose(table["area"].values[:, 1], (counts > 0) * (1 + np.arange(8)) / 10, rtol=1e-6)
    assert (np.diff(table["instance_nsd_id"].values) >= 0).all()
    assert "captions" in table


@pytest.mark.parametrize("case", range(len(DRAWN)))
def test_polygons_as_coco_draws_them(case: int) -> None:
    height, width = DRAWN[case]["size"]
    mask = annotation_mask(DRAWN[case]["polygons"], height, width)
    assert encode_rle(mask).decode() == DRAWN[case]["counts"]
    np.testing.assert_array_equal(decode_rle(DRAWN[case]["counts"], height, width), mask)


def test_run_length_codes_come_back() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (40, 60), (425, 640)):
        for density in (0, 0.01, 0.5, 1):
            mask = rng.random(shape) < density
            np.testing.assert_array_equal(decode_rle(encode_rle(mask), *shape), mask)
            edges = np.flatnonzero(np.diff(mask.T.ravel().astype(int))) + 1
            runs = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
            np.testing.assert_array_equal(decode_rle([0, *runs] if mask[0, 0] else runs, *shape), mask)
    with pytest.raises(SourceError, match="run-length code of 2400 pixels for an image of 60 x 41"):
        decode_rle([2400], 41, WIDTH)
    for damaged in ("", "o", "0123"):
        with pytest.raises(SourceError, match="run-length code of"):
            decode_rle(damaged, 41, WIDTH)


def test_masks_are_resized_to_the_nearest_pixel() -> None:
    mask = np.random.default_rng(0).random((30, 30)) < 0.5
    np.testing.assert_array_equal(resize_mask(mask, 30), mask)
    np.testing.assert_array_equal(resize_mask(mask, 10), mask[1::3, 1::3])
    np.testing.assert_array_equal(resize_mask(mask, 90), np.kron(mask, np.ones((3, 3), bool)))


def test_crops_are_texts_in_the_table_or_tuples() -> None:
    info = pd.DataFrame({"nsdId": [0, 1], "cocoId": [5, 6], "cocoSplit": "val2017",
                         "cropBox": ["(0, 0, 0.1, 0.4)", (0.25, 0.25, 0, 0)]})  # fmt: skip
    first, second = cropped_images(info)
    assert first.window(100, 200) == (slice(0, 100), slice(20, 120))
    assert second.window(200, 100) == (slice(50, 150), slice(0, 100))
    info.loc[1, "cropBox"] = "0.25"
    with pytest.raises(SourceError, match=r"cropBox of image 1 is '0.25', not \(top, bottom, left, right\)"):
        cropped_images(info)
    for odd in ("5\x10", 6.5, np.nan, np.inf):
        info["cocoId"] = pd.Series([5, odd], dtype=object)
        with pytest.raises(SourceError, match=r"line 3: cocoId is .*, not a whole number; copy the published file"):
            cropped_images(info)


def test_one_line_for(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"none of instances_train2017\.json, stuff_"):
        table_of(tmp_path)
    write(tmp_path, "instances", [], image=999)
    with pytest.raises(SourceError, match="none of the 1 images of NSD that should be in it, but 1 others"):
        table_of(tmp_path)
    with pytest.raises(SourceError, match="no column cropBox"):
        cropped_images(pd.DataFrame({"nsdId": [0], "cocoId": [5], "cocoSplit": "val2017"}))
    write(tmp_path, "instances", [{"category_id": 3, "segmentation": rectangle(20, 10, 40, 30)}])
    with pytest.raises(SourceError, match="annotations of category 3, which no file names"):
        table_of(tmp_path)
    write(tmp_path, "instances", [{"category_id": 1, "segmentation": rectangle(20, 10, 40, 30)}])
    with pytest.raises(
        SourceError, match=r"instances_train2017.json: photograph 111 .* would be 60 x 40, not a square"
    ):
        table_of(tmp_path, CroppedImage(7, 111, "train2017", (0, 0, 0, 0)))
    write(tmp_path, "instances", [{"category_id": 1, "segmentation": {"counts": "11", "size": [1, 2]}}])
    with pytest.raises(SourceError, match=r"instances_train2017.json: run-length code of 2 pixels"):
        table_of(tmp_path)
    write(tmp_path, "instances", [{"category_id": 1, "segmentation": rectangle(20, 10, 40, 30)}])
    whole = (tmp_path / "instances_train2017.json").read_text()
    no_size = '{"images": [{"id": 111}], "annotations": []}'
    for content in ("[]", "", "null", "{", whole[:-40], whole.replace('"category_id"', '"kategorie"'), no_size):
        (tmp_path / "instances_train2017.json").write_text(content)
        with pytest.raises(SourceError, match="not an annotation file of COCO") as raised:
            table_of(tmp_path)
        assert "\n" not in str(raised.value)
