"""The data of the explorer's page. Pointing at voxels is tested in the browser."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from nsdflow.errors import MissingDataError, SelectionError
from nsdflow.report.brain.explorer import write_explorer
from nsdflow.report.brain.explorer.packing import pack, pack_rows, thumbnail
from nsdflow.runs.results import write_results


@pytest.fixture
def run(subject: xr.Dataset, tmp_path: Path) -> Path:
    write_results(tmp_path / "run", xr.DataTree.from_dict({"/": xr.Dataset(), "/subj01": subject}))
    return tmp_path / "run"


def payload(page: Path) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    return json.loads(text)


def unpacked(part: dict[str, str]) -> np.ndarray:
    return np.frombuffer(b64decode(part["data"]), part["type"].removesuffix("Array").lower())


def test_maps_and_pixels_say_the_same_as_the_results(run: Path, subject: xr.Dataset) -> None:
    page = write_explorer(run)
    assert Path(page).name == "explore_subj01.html"
    data = payload(Path(page))
    voxel = unpacked(data["view"]["voxel"]).reshape(data["view"]["rows"], data["view"]["columns"])
    accuracy = unpacked(next(m for m in data["maps"] if m["name"] == "accuracy")["values"])
    np.testing.assert_allclose(accuracy, subject["accuracy"], rtol=1e-6)
    x = np.append(accuracy, np.nan)[voxel]
    middle = voxel.shape[1] // 2
    assert np.nanmax(x[:, :middle]) < 0 < np.nanmin(x[:, middle:])
    np.testing.assert_array_equal(unpacked(data["facts"]["flat_index"]), subject["flat_index"])
    circles = unpacked(data["field"]["values"]).reshape(-1, 3)
    np.testing.assert_allclose(circles, 8.4 * subject["rf"].values, rtol=1e-5)
    shares = unpacked(data["layers"]["shares"]).reshape(-1, 3)
    np.testing.assert_array_equal(shares.argmax(axis=1), subject["flat_index"] % 3)
    assert any(note.startswith("No responses and images") for note in data["notes"])


def test_rows_are_packed_to_a_127th_of_their_largest() -> None:
    values = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [np.nan, 3.0, -1.0]])
    packed = pack_rows(values)
    back = unpacked(packed["values"]).reshape(3, 3) * unpacked(packed["largest"])[:, None] / 127
    np.testing.assert_allclose(back, np.nan_to_num(values), atol=3 / 254)
    assert unpacked(pack(np.array([1.5], np.float32))).tolist() == [1.5]


def test_thumbnails_are_small_pictures() -> None:
    from io import BytesIO

    picture = Image.open(BytesIO(b64decode(thumbnail(np.full((3, 90, 90), 200, np.uint8)))))
    assert picture.size == (72, 72)


def test_one_line_for_what_cannot_be_explored(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"unknown subject 'subj09'; .*subj01"):
        write_explorer(run, "subj09")
    write_results(tmp_path / "empty", xr.DataTree.from_dict({"/": xr.Dataset(), "/history": xr.Dataset()}))
    with pytest.raises(MissingDataError, match="no voxels in its results"):
        write_explorer(tmp_path / "empty")
