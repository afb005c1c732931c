"""The page of ``nsdflow explore`` in headless Chromium: pointing, keys, and 30,000 voxels without lag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from nsdflow.report.brain.explorer import data as explorer
from nsdflow.report.brain.explorer.packing import pack_rows
from nsdflow.report.brain.explorer.page import write_explorer
from nsdflow.runs.results import write_results
from nsdflow.store.voxels import voxel_table

pytestmark = pytest.mark.browser

SHAPE = (40, 50, 30)
VOXELS = 30_000
IMAGES = 100


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30,000 voxels in slices; accuracy is the position from left to right, responses are a known pattern."""
    rng = np.random.default_rng(0)
    flat = np.sort(rng.choice(np.prod(SHAPE), VOXELS, replace=False))
    table = voxel_table(flat, SHAPE, roi=np.ones(np.prod(SHAPE), int), affine=np.eye(4))
    subject = table.assign(
        accuracy=("voxel", table["i"].values / SHAPE[0]),
        noise_ceiling=("voxel", np.full(VOXELS, 0.8)),
        pooling_logits_0=(("voxel", "y", "x"), rng.normal(size=(VOXELS, 7, 7)).astype(np.float32)),
        weights=(("voxel", "feature"), rng.normal(size=(VOXELS, 4)).astype(np.float32)),
    ).assign_coords(layer=("feature", ["c1", "c1", "c2", "c3"])).assign_attrs(
        subject="subj01", space="func1pt8mm", source="/nowhere"
    )  # fmt: skip
    run = tmp_path_factory.mktemp("explorer") / "run"
    write_results(run, xr.DataTree.from_dict({"/": xr.Dataset(), "/subj01": subject}))
    measured = rng.normal(size=(VOXELS, IMAGES))
    image = np.full((3, 20, 20), 99, np.uint8)
    responses = {
        "nsd_id": list(range(IMAGES)), "thumbnails": [explorer.thumbnail(image)] * IMAGES,
        "measured": pack_rows(measured), "predicted": pack_rows(0.5 * measured),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorer, "_responses", lambda *_: responses)
        return Path(write_explorer(run))


def facts(browser: Any) -> dict[str, str]:
    """What the panel says of the voxel."""
    script = """return Object.fromEntries([...document.querySelectorAll('#voxel dt')].map(
        dt => [dt.textContent, dt.nextSibling.textContent]))"""
    return dict(browser.driver.execute_script(script))


def press(browser: Any, *keys: str) -> None:
    for key in keys:
        browser.driver.execute_script("document.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))", key)


def test_the_page_is_complete_in_one_file(browser: Any, page: Path) -> None:
    assert page.stat().st_size < 25e6
    browser.open(page.as_uri())
    browser.wait_for(["Slices of func1pt8mm", "No flat map"])
    assert {url for url in browser.requests() if not url.startswith(("file:", "data:"))} == set()
    assert browser.complaints() == []


def test_keys_walk_through_the_brain(browser: Any, page: Path) -> None:
    browser.open(page.as_uri())
    press(browser, "b")
    best = facts(browser)
    assert best["accuracy"] == f"{(SHAPE[0] - 1) / SHAPE[0]:.3f}"
    assert best["i, j, k"].startswith(f"{SHAPE[0] - 1}, ")
    press(browser, "ArrowLeft", "ArrowLeft", "ArrowLeft")
    walked = facts(browser)
    assert float(walked["accuracy"]) < float(best["accuracy"])
    press(browser, "m")
    assert browser.driver.execute_script("return document.getElementById('map').value") == "accuracy over ceiling"
    texts = browser.text()
    for words in ("Where it looks", "Response (up), prediction (right)", "Highest responses", "Lowest responses", "c1"):
        assert words in texts


def test_pointing_is_quick_and_a_click_keeps_the_voxel(browser: Any, page: Path) -> None:
    """Median time from a move to the finished panel, over 60 moves across the brain, in one page of 30,000 voxels."""
    browser.open(page.as_uri())
    script = """
    const over = document.getElementById('over'), box = over.getBoundingClientRect(), times = [];
    const fire = (kind, x, y) => over.dispatchEvent(new PointerEvent(kind, {clientX: x, clientY: y, bubbles: true}));
    let changes = 0, last = over.dataset.voxel;
    for (let n = 0; n < 60; n++) {
      const begin = performance.now();
      fire('pointermove', box.left + box.width * (0.02 + 0.015 * n), box.top + box.height * 0.25);
      times.push(performance.now() - begin);
      if (over.dataset.voxel !== last) changes++;
      last = over.dataset.voxel;
    }
    fire('click', box.left + box.width * 0.1, box.top + box.height * 0.25);
    const clicked = over.dataset.voxel;
    fire('pointermove', box.left + box.width * 0.3, box.top + box.height * 0.25);
    times.sort((a, b) => a - b);
    const began = performance.now(); choose(1);
    return JSON.stringify({median: times[30], worst: times[59], changes, same: clicked === over.dataset.voxel,
                           redraw: performance.now() - began});
    """
    found = json.loads(browser.driver.execute_script(script))
    assert found["changes"] > 10
    assert found["same"]
    assert found["median"] < 50, found
    assert found["redraw"] < 500, found
