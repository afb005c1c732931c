"""The turnable brain in headless Chromium: it is drawn, turns by keys and mouse, and changes its map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from nsdflow.report.brain.maps import brain_maps
from nsdflow.report.brain.turning import turning_surface
from nsdflow.store.voxels import voxel_table
from nsdflow.synthetic import SyntheticSpec
from nsdflow.synthetic.brain.planting import subject_anatomy
from nsdflow.synthetic.published.cortex import write_cortex

pytestmark = pytest.mark.browser

#: Number of drawn pixels that are not white, and the sum of all pixels.
PIXELS = """
const canvas = document.querySelector('canvas'), gl = canvas.getContext('webgl');
const data = new Uint8Array(4 * canvas.width * canvas.height);
gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, data);
let drawn = 0, sum = 0, coloured = 0;
for (let n = 0; n < data.length; n += 4) {
  if (data[n] + data[n + 1] + data[n + 2] < 765) drawn++;
  if (Math.abs(data[n] - data[n + 1]) > 8 || Math.abs(data[n] - data[n + 2]) > 8) coloured++;
  sum = (sum * 31 + data[n] + 7 * data[n + 1] + 13 * data[n + 2]) % 1000003;
}
return {drawn, coloured, sum, all: data.length / 4};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticSpec(subjects=1, vertices=2562)
    root = tmp_path_factory.mktemp("cortex")
    write_cortex(root, spec)
    anatomy = subject_anatomy(spec, 1, "func1pt8mm")
    table = voxel_table(np.flatnonzero(anatomy.visual), spec.shapes[0], roi=anatomy.joined_roi, affine=np.eye(4))
    flat = table["flat_index"].values
    subject: xr.Dataset = table.assign(
        accuracy=("voxel", anatomy.positions[flat, 0] + 1), noise_ceiling=("voxel", 0.2 + (flat % 7) / 10)
    ).assign_attrs(subject="subj01", space="func1pt8mm", source=str(root))
    target = root / "page.html"
    body = turning_surface(subject, brain_maps(subject))
    target.write_text(f"<!doctype html><meta charset=utf-8><body>{body}")
    return target


def test_the_brain_turns(browser: Any, page: Path) -> None:
    browser.open(page.as_uri())
    browser.wait_for(["Drag or use the arrow keys", "accuracy"])
    assert browser.complaints() == []
    assert {url for url in browser.requests() if not url.startswith(("file:", "data:"))} == set()
    look = browser.driver.execute_script
    if look("return !document.querySelector('canvas')"):
        pytest.skip("this Chromium has no WebGL")
    first = look(PIXELS)
    assert 0.05 * first["all"] < first["drawn"] < 0.9 * first["all"]
    assert first["coloured"] > 500
    press = "document.querySelector('canvas').dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))"
    for _ in range(5):
        look(press, "ArrowRight")
    turned = look(PIXELS)
    assert turned["sum"] != first["sum"]
    for _ in range(5):
        look(press, "ArrowLeft")
    assert look(PIXELS)["sum"] == first["sum"]
    look("const menu = document.querySelector('select'); menu.selectedIndex = 1; menu.onchange();")
    assert look(PIXELS)["sum"] != first["sum"]
    assert "over ceiling" in look("return document.querySelector('select').value")
