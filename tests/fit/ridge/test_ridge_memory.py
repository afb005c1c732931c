"""The planned peak of a ridge fit is within 20 % of the measured one, for very different shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from nsdflow.fit.ridge import RidgeProblem, RidgeShape, plan_memory

MEASURE = """
import json, os, sys, threading
import numpy as np, torch
from nsdflow.fit.ridge import LambdaSelection, RidgeProblem, RidgeShape, fit, plan_memory

torch.set_num_threads(1)

class Drawn:
    "A matrix of random numbers, of which only a block is ever in memory."
    def __init__(self, *shape): self.shape = shape
    def __getitem__(self, key):
        columns = range(self.shape[1])[key[1]]
        return np.random.default_rng(columns.start).standard_normal((self.shape[0], len(columns)), dtype=np.float32)

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

def measure(n, p, v, repeats, keep, precision, method, sizes):
    def run(n, p, v):
        problem = RidgeProblem((1e3, 1e4, 1e5), LambdaSelection(method, folds=2), precision=precision, **sizes)
        write = None if keep else (lambda voxels, coefficients: None)
        fit(Drawn(n, p), Drawn(n * repeats, v), problem, images=torch.arange(n).repeat(repeats), write=write)
        held = {"holdout": round(0.1 * n), "kfold": n // 2}.get(method, 0)
        return plan_memory(RidgeShape(n, p, v, n * repeats, held, keep=keep), problem).bytes

    run(40, 30, 5), run(30, 40, 5)                      # libraries load and make their buffers
    open("/proc/self/clear_refs", "w").write("5")       # the peak starts again from here
    before, held = status("VmRSS"), status("RssAnon")
    done, largest = threading.Event(), [held]

    def watch():
        while not done.wait(0.002):
            largest[0] = max(largest[0], status("RssAnon"))

    # the system may take pages of libraries back meanwhile, which lowers the resident size, but not the anonymous one
    watcher = threading.Thread(target=watch)
    watcher.start()
    planned = run(n, p, v)
    done.set()
    watcher.join()
    print(json.dumps([planned, max(status("VmHWM") - before, largest[0] - held)]), flush=True)

for shape in json.loads(sys.argv[1]):                   # each in a process where the libraries are loaded already
    child = os.fork()
    if not child:
        measure(*shape)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{shape} failed")
"""

SHAPES = {
    "dual, many features": (2400, 4200, 700, 1, False, "float32", "holdout", {"voxels_at_once": 350}),
    "primal, many images": (3500, 1050, 1050, 1, False, "float64", "gcv", {"features_at_once": 350}),
    "folds": (2100, 3000, 800, 1, False, "float64", "kfold", {"features_at_once": 400, "voxels_at_once": 400}),
    "repeats, kept": (1400, 2100, 2100, 3, True, "float32", "loo", {"voxels_at_once": 1050}),
    "few images": (1100, 24000, 2600, 2, False, "float64", "holdout", {"features_at_once": 7000}),
}


@pytest.fixture(scope="module")
def peaks() -> dict[str, tuple[int, int]]:
    """Planned and measured bytes of each shape."""
    # every freed page goes back at once: what is measured is what was held, and not what the allocator kept
    eager = {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEASURE, json.dumps(list(SHAPES.values()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | eager)
    assert done.returncode == 0, done.stderr
    return dict(zip(SHAPES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", SHAPES)
def test_planned_peak(peaks: dict[str, tuple[int, int]], name: str) -> None:
    planned, measured = peaks[name]
    print(name, planned >> 20, measured >> 20, round(planned / measured, 3))
    assert 0.8 * measured <= planned <= 1.2 * measured


def test_a_full_subject_fits_into_four_gib() -> None:
    shape = RidgeShape(10_000, 148_000, 52_000, 10_000, 1000)
    assert plan_memory(shape, RidgeProblem(tuple(range(1, 11)))).bytes < 3 << 30
