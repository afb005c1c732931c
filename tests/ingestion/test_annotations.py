"""Annotations in a store: written from COCO's files, selected by category."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import nsdflow
from nsdflow.errors import StoreError
from nsdflow.ingestion.annotations import add_annotations
from nsdflow.nsd.design import read_stimulus_info
from nsdflow.nsd.source import open_source
from nsdflow.store import Store


def test_a_store_knows_what_its_images_show(whole: Store, source: Path, tmp_path: Path) -> None:
    """A dog covers the whole photograph of every second image: the whole of NSD's crop, whatever the crop."""
    store = tmp_path / "nsd.zarr"
    shutil.copytree(whole.url, store)
    info = read_stimulus_info(open_source(source))
    assert info is not None
    for split in ("train2017", "val2017"):
        rows = info[info["cocoSplit"] == split]
        everything = [[0, 0, 90, 0, 90, 90, 0, 90]]
        content = {
            "images": [
                {"id": int(coco), "height": round(40 / (1 - top - bottom)), "width": round(40 / (1 - left - right))}
                for coco, (top, bottom, left, right) in zip(
                    rows["cocoId"], rows["cropBox"].map(ast.literal_eval), strict=True
                )
            ],
            "annotations": [
                {"image_id": int(coco), "category_id": 18, "segmentation": everything}
                for nsd, coco in zip(rows["nsdId"], rows["cocoId"], strict=True) if nsd % 2
            ],
            "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}],
        }  # fmt: skip
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(content))
    opened = add_annotations(str(store), open_source(source), tmp_path)
    table = opened.annotations()
    odd = table["nsd_id"].values % 2 == 1
    np.testing.assert_array_equal(table["instances"].values[:, 0], odd)
    np.testing.assert_allclose(table["area"].values[odd, 0], 1, rtol=1e-6)
    masks = opened.annotations(masks=True)["mask"]
    assert masks.shape == (odd.sum(), 32, 32)
    assert masks[[0, 3]].values.all()
    responses = nsdflow.open_store(str(store)).responses(opened.subjects[0], category={"dog": 0.9})
    assert (responses["nsd_id"].values % 2 == 1).all()
    assert responses.sizes["trial"] > 0
    with pytest.raises(StoreError, match="has annotations; remove its folder annotations"):
        add_annotations(str(store), open_source(source), tmp_path)
