"""One in-process cluster for all tests of a module that only need some worker."""

from __future__ import annotations

import shutil

import pytest

from nsdflow.cluster.connect import connect


@pytest.fixture(scope="module")
def client():
    with connect("threads", threads_per_worker=2, dashboard=None) as client:
        yield client


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, as Debian's chromium and chromium-driver install it."""
    selenium = pytest.importorskip("selenium.webdriver")
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in paths.values():
        pytest.skip(f"no browser: {paths}; on Debian: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = paths["chromium"]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,900"):
        options.add_argument(argument)
    driver = selenium.Chrome(options, selenium.ChromeService(paths["chromedriver"]))
    yield driver
    driver.quit()
