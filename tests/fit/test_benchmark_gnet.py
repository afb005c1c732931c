"""The benchmark runs, both steps compute the same, and (slow) ours stays faster."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gnet.py"
FIGURES = {"seconds_published", "seconds_ours", "peak_bytes_published", "peak_bytes_ours"}


def run(*arguments: str) -> tuple[str, dict[str, float]]:
    """Everything that it prints, and the figures of its last line."""
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, capture_output=True, text=True)
    return done.stdout, json.loads(done.stdout.splitlines()[-1])


def test_small() -> None:
    text, figures = run("--voxels", "20", "--batch", "3", "--width", "4", "--repeats", "1", "--threads", "1")
    assert figures.keys() == FIGURES
    assert all(value > 0 for value in figures.values())
    difference = re.search(r"relative difference ([\d.e+-]+)", text)
    assert difference is not None
    assert float(difference.group(1)) < 1e-9


def test_full_size_scaled_down(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a GPU's epoch all but the device and the counts; its work at true size is what was counted by hand."""
    spec = importlib.util.spec_from_file_location("benchmark_gnet", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    assert benchmark.full_epoch("cpu", width=4, shrink=4000)["seconds_epoch"] > 0
    assert "per epoch (float32, prefilter cache none)" in capsys.readouterr().out

    encoder, _ = benchmark.build(1, width=64, dropout=0.5, dtype=torch.float32)
    counts = zip(benchmark.PUBLISHED_VOXELS, benchmark.PUBLISHED_TRIALS, strict=True)
    sizes = [(voxels, count * 9 // 10) for voxels, count in counts]
    operations, _ = benchmark.epoch_work(encoder, sizes, cached=False)
    assert operations == pytest.approx(1.7e15, rel=0.02)


@pytest.mark.slow
def test_distance() -> None:
    """At 2,000 voxels and batches of 50 on two cores."""
    _, figures = run()
    assert figures["seconds_published"] / figures["seconds_ours"] >= 1.7
    assert figures["peak_bytes_ours"] / figures["peak_bytes_published"] <= 0.35
