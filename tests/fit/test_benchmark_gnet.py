"""The benchmark runs, both steps compute the same, and (slow) ours keeps its distance."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gnet.py"
FIGURES = {"seconds_published", "seconds_ours", "peak_bytes_published", "peak_bytes_ours"}


def run(*arguments: str) -> tuple[str, dict[str, float]]:
    """All that it prints, and the figures of its last line."""
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, capture_output=True, text=True)
    return done.stdout, json.loads(done.stdout.splitlines()[-1])


def test_small() -> None:
    text, figures = run("--voxels", "20", "--batch", "3", "--width", "4", "--repeats", "1", "--threads", "1")
    assert figures.keys() == FIGURES
    assert all(value > 0 for value in figures.values())
    difference = re.search(r"relative difference ([\d.e+-]+)", text)
    assert difference is not None
    assert float(difference.group(1)) < 1e-9


@pytest.mark.slow
def test_distance() -> None:
    """At 2,000 voxels and batches of 50 on two cores."""
    _, figures = run()
    assert figures["seconds_published"] / figures["seconds_ours"] >= 1.7
    assert figures["peak_bytes_ours"] / figures["peak_bytes_published"] <= 0.35
