"""The benchmarks run, and their last line is one JSON object of their figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def figures(script: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_ingest() -> None:
    """A few volumes: too few to compare speeds, enough to see the memory of a whole brain's."""
    found = figures("ingest.py", "--trials", "4", "--repeats", "1")
    assert {"seconds_igzip", "seconds_ingest", "seconds_nibabel", "peak_bytes"} <= found.keys()
    assert 0 < found["peak_bytes"] < 1 << 30


@pytest.mark.slow
def test_query() -> None:
    found = figures("query.py", "--sessions", "1", "--repeats", "1")
    assert {"seconds_store", "seconds_nsd"} <= found.keys()
    assert all(value > 0 for name, value in found.items() if name != "zarrs")
