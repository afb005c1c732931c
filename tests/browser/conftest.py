"""Headless Chromium, and one real training that it shows."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

import nsdflow
from nsdflow.cluster.connect import connect
from nsdflow.report import write_report

#: All text of a page, also that inside the shadow trees in which Bokeh draws.
TEXT = """
const parts = [];
const walk = (node) => {
  if (node.shadowRoot) walk(node.shadowRoot);
  if (node.nodeType === Node.TEXT_NODE) parts.push(node.textContent);
  node.childNodes.forEach(walk);
};
walk(document.body);
return parts.join("\\n");
"""


class Browser:
    """The browser operations of the tests; ``driver`` is selenium's."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Open a page, and discard the requests and errors of earlier pages."""
        self.driver.get("about:blank")  # a page of a dashboard that is gone asks for it until it is left
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(url)

    def text(self) -> str:
        """All text of the page."""
        return str(self.driver.execute_script(TEXT))

    def wait_for(self, words: Iterable[str], seconds: float = 120.0) -> None:
        """Wait until the page shows all of these words."""
        ends = time.monotonic() + seconds
        while missing := [word for word in words if word not in self.text()]:
            assert time.monotonic() < ends, f"the page never showed {missing}; it shows: {self.text()}"
            time.sleep(0.2)

    def complaints(self) -> list[str]:
        """Errors on the console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> set[str]:
        """Scheme and host of every request of the page."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {f"{urlsplit(url).scheme}://{urlsplit(url).hostname or ''}" for url in urls}


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, as Debian's chromium and chromium-driver install it."""
    selenium = pytest.importorskip("selenium.webdriver")
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in paths.values():
        pytest.skip(f"no browser: {paths}; on Debian: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = paths["chromium"]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1500,1000"):
        options.add_argument(argument)
    driver = selenium.Chrome(options, selenium.ChromeService(paths["chromedriver"]))
    yield Browser(driver)
    driver.quit()


class Training(Thread):
    """GNet8r on two areas, trained from a thread on separate workers.

    The dashboard stays until :meth:`finish`.
    """

    def __init__(self, store: str, runs: Path) -> None:
        super().__init__(name="training")
        self.store, self.runs = store, runs
        self.dashboard = ""
        self.error: Exception | None = None
        self.seen = Event()

    @property
    def folder(self) -> Path:
        return self.runs / "gnet8r"

    def run(self) -> None:
        settings = {"prefilter": "gabor", "width": 4, "bootstrap": 8, "rois": ["V1", "V2"], "roi_groups": ["V1", "V2"]}
        train = {"epochs": 12, "batch_size": 20}
        try:
            with connect("local", workers=2, memory="2GiB") as client:
                self.dashboard = f"http://127.0.0.1:{client.cluster.scheduler.http_server.port}"
                nsdflow.run("gnet8r", store=self.store, runs=str(self.runs), client=client, train=train, **settings)
                self.seen.wait(timeout=240)
        except Exception as error:  # noqa: BLE001 - told by the test that joins the thread
            self.error = error

    def finish(self) -> Path:
        """Wait for the end of the training; gives the page of its report."""
        self.seen.set()
        self.join(timeout=240)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return Path(write_report(str(self.folder)))


@pytest.fixture(scope="session")
def training(small_store, tmp_path_factory):
    """The running training."""
    training = Training(small_store, tmp_path_factory.mktemp("browser"))
    training.start()
    yield training
    training.seen.set()
    training.join(timeout=240)
