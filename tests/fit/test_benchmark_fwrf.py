"""The fwRF benchmark at small sizes: its last line, its winners, and the path of the GPU, walked on the CPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fwrf.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_fwrf", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_last_line_is_json_and_all_three_choose_alike() -> None:
    sizes = ["--images", "60", "--voxels", "40", "--candidates", "4", "--full"]
    done = subprocess.run([sys.executable, str(SCRIPT), *sizes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    keys = {"seconds_published", "seconds_himalaya", "seconds_ours", "same_winners", "flop_floor_seconds"}
    assert keys <= set(found)
    assert found["same_winners"]
    if not torch.cuda.is_available():
        assert found["full"] == "missing: no GPU"


@pytest.mark.slow
def test_the_full_size_is_one_call_at_any_size(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "candidate_grid", lambda sizes: script.np.array([[0.0, 0.0, 0.3], [0.1, 0.1, 0.2]]))
    with torch.inference_mode():
        found = script.full_size("cpu", images=40, trials=100, voxels=12)
    assert found["full"] == "measured"
    assert found["full_seconds"] > 0
