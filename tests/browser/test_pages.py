"""Pages in a browser: the dashboard while a training runs, then the report of that run."""

from __future__ import annotations

import re
import time

import pytest
from PIL import Image

from nsdflow.runs.status import read_status

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

#: Number of points of the curves and bars that a page has drawn.
DRAWN = """
const drawn = {lines: 0, points: 0, bars: 0};
for (const source of Bokeh.documents[0]._all_models.values()) {
  if (source.type !== "ColumnDataSource") continue;
  const data = source.data;
  if ("dash" in data) { drawn.lines = data.x.length; drawn.points = data.x.reduce((n, x) => n + x.length, 0); }
  if ("top" in data) drawn.bars = data.top.length;
}
return drawn;
"""


def epochs_shown(browser) -> dict[str, int]:
    """Epoch of each training, as the page says."""
    words = browser.text().split("\n")
    return {
        name: int(re.fullmatch(r"(\d+) / 12", words[at + 1]).group(1))
        for at, name in enumerate(words)
        if name in ("gnet8r/V1", "gnet8r/V2") and re.fullmatch(r"\d+ / 12", words[at + 1])
    }


def test_the_dashboard_follows_a_training(browser, training, tmp_path):
    ends = time.monotonic() + 60
    while not training.dashboard:
        assert time.monotonic() < ends
        assert training.error is None, training.error
        time.sleep(0.1)
    browser.open(f"{training.dashboard}/nsdflow")
    browser.wait_for(
        ["gnet8r/V1", "gnet8r/V2", "checkpoint age", "loss", "median holdout accuracy", "s / epoch", "time left"]
    )
    first = epochs_shown(browser)
    assert set(first) == {"gnet8r/V1", "gnet8r/V2"}
    assert sum(first.values()) < 24, "the training ended before anybody saw it"
    assert not training.folder.joinpath("results.zarr").exists()
    ends = time.monotonic() + 120
    while set(epochs_shown(browser).values()) != {12}:  # it is updated to the end without a reload
        assert time.monotonic() < ends, f"the page stands still at {epochs_shown(browser)}"
        time.sleep(0.2)
    drawn = browser.driver.execute_script(DRAWN)
    assert drawn["lines"] == 4  # loss and holdout loss of two trainings
    assert drawn["points"] == 4 * 12
    assert drawn["bars"] == 4  # two subjects of each
    assert browser.driver.save_screenshot(str(tmp_path / "page.png"))
    with Image.open(tmp_path / "page.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20  # curves in colours, not a blank page

    # a terminal says the same
    (status,) = read_status(str(training.folder))
    assert "gnet8r/V1" in status.describe()

    browser.open(f"{training.dashboard}/status")
    browser.wait_for(["Nsdflow"])  # the link to the page from Dask's pages
    browser.open(f"{training.dashboard}/nsdflow")
    browser.wait_for(["gnet8r/V1"])
    assert browser.complaints() == []
    assert browser.requests() == {"http://127.0.0.1"}


def test_the_report_needs_no_network_and_shows_every_picture(browser, training):
    page = training.finish()
    browser.open(page.as_uri())
    pictures = browser.driver.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt])"
    )
    assert len(pictures) >= 5
    assert [alt for complete, width, alt in pictures if not complete or width == 0] == []
    assert browser.complaints() == []
    assert browser.requests() <= {"file://", "data://"}
    assert browser.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_what_stays_of_the_dashboard_opens_too(browser, training):
    training.finish()
    browser.open((training.folder / "performance.html").as_uri())
    browser.wait_for(["Task Stream"])
    logo = "https://docs.dask.org"  # the one thing that Dask's page asks the network for, and does without
    assert browser.requests() <= {"file://", "data://", logo}
    assert [complaint for complaint in browser.complaints() if logo not in complaint] == []


def test_the_browser_would_notice(browser, tmp_path):
    """The test detects a broken picture and a request to the network."""
    page = tmp_path / "page.html"
    page.write_text('<img src="http://127.0.0.1:9/nowhere.png"><script>console.error("no")</script>')
    browser.open(page.as_uri())
    assert browser.driver.execute_script("return document.images[0].naturalWidth") == 0
    assert browser.requests() == {"file://", "http://127.0.0.1"}
    assert browser.complaints()
