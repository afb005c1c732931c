"""COCO's annotations in NSD's crops, on files written here with known shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.nsd.annotations import CroppedImage, annotation_mask, annotation_table, cropped_images, decode_rle

HEIGHT, WIDTH = 40, 60
CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
]
#: A square of 40 pixels from the left third on: columns 10 to 50.
IMAGE = CroppedImage(nsd_id=7, coco_id=111, split="train2017", crop=(0.0, 0.0, 10 / 60, 10 / 60))


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def compressed(mask: np.ndarray) -> str:
    """COCO's code from its description: runs down the columns, 5 bits per character, differences to two back."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [0]])
    edges = np.flatnonzero(np.diff(np.concatenate([flat[1:-1], [1 - flat[-2]]])))
    runs = np.diff(np.concatenate([[-1], edges])).tolist()
    runs = runs if not mask.T.ravel()[0] else [0, *runs]
    text = ""
    for n, run in enumerate(runs):
        x = run - runs[n - 2] if n > 2 else run
        more = True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
    return text


def write(folder: Path, kind: str, annotations: list[dict[str, Any]], image: int = 111) -> None:
    content = {
        "images": [{"id": image, "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": image, **annotation} for annotation in annotations],
        "categories": CATEGORIES if kind != "captions" else [],
    }
    (folder / f"{kind}_train2017.json").write_text(json.dumps(content))


def test_instances_are_moved_into_the_crop_clipped_and_dropped(tmp_path: Path) -> None:
    write(tmp_path, "instances", [
        {"category_id": 1, "segmentation": rectangle(20, 10, 40, 30)},  # whole, 20 x 20
        {"category_id": 1, "segmentation": rectangle(0, 0, 20, 40)},  # its right half is left
        {"category_id": 18, "segmentation": rectangle(0, 0, 10, 40)},  # outside
        {"category_id": 18, "segmentation": rectangle(0, 0, 11, 10)},  # a tenth less a bit is left: dropped
    ])  # fmt: skip
    write(tmp_path, "captions", [{"caption": " A person. "}, {"caption": "Two persons."}])
    table = annotation_table(tmp_path, [IMAGE])
    assert table["category"].values.tolist() == ["person", "dog"]
    assert table["instances"].values.tolist() == [[2, 0]]
    # 400 + 400 pixels of 1,600
    np.testing.assert_allclose(table["area"].values, [[0.5, 0]], atol=0.04)
    np.testing.assert_allclose(table["box"].values, [[0.25, 0.25, 0.5, 0.5], [0, 0, 0.25, 1]], atol=0.03)
    assert table["captions"].values.tolist() == [["A person.", "Two persons.", "", "", ""]]
    assert table["nsd_id"].values.tolist() == [7]


def test_run_length_codes_of_both_kinds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:30, 12:45] = rng.random((25, 33)) > 0.3
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    np.testing.assert_array_equal(decode_rle(runs, HEIGHT, WIDTH), mask)
    np.testing.assert_array_equal(decode_rle(compressed(mask), HEIGHT, WIDTH), mask)
    with pytest.raises(SourceError, match="run-length code of 2400 pixels for an image of 60 x 41"):
        decode_rle(runs, 41, WIDTH)


def test_polygons_cover_the_pixels_whose_centres_they_hold() -> None:
    mask = annotation_mask(rectangle(10, 5, 20, 15), HEIGHT, WIDTH)
    assert mask[6:14, 11:19].all()
    assert not mask[:4].any()
    assert not mask[:, 22:].any()
    assert abs(int(mask.sum()) - 100) <= 21, "a line of pixels more at most"


def test_crops_are_texts_in_the_table_or_tuples() -> None:
    info = pd.DataFrame({"nsdId": [0, 1], "cocoId": [5, 6], "cocoSplit": "val2017",
                         "cropBox": ["(0, 0, 0.1, 0.2)", (0.25, 0, 0, 0)]})  # fmt: skip
    first, second = cropped_images(info)
    assert first.window(100, 200) == (slice(0, 100), slice(20, 160))
    assert second.window(100, 200) == (slice(25, 100), slice(0, 200))


def test_one_line_for(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"none of instances_train2017\.json, stuff_"):
        annotation_table(tmp_path, [IMAGE])
    write(tmp_path, "instances", [], image=999)
    with pytest.raises(SourceError, match="none of the 1 images of NSD that should be in it"):
        annotation_table(tmp_path, [IMAGE])
    (tmp_path / "instances_train2017.json").write_text("[]")
    with pytest.raises(SourceError, match="not an annotation file of COCO"):
        annotation_table(tmp_path, [IMAGE])
    with pytest.raises(SourceError, match="no column cropBox"):
        cropped_images(pd.DataFrame({"nsdId": [0], "cocoId": [5], "cocoSplit": "val2017"}))
