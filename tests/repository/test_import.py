"""Importing has no side effects: no files, no environment, no threads, no heavy layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "zarr", "xarray", "dask", "distributed", "nibabel", "matplotlib", "pandas", "numpy")

# runs before and after an import in a fresh interpreter; prints what differs
PROBE = """
import json, os, signal, sys, threading
def state():
    handlers = [repr(signal.getsignal(number)) for number in signal.valid_signals()]
    return [dict(os.environ), os.getcwd(), handlers, threading.active_count(), os.umask(0o022)]
before = state()
{statement}
after = state()
print(json.dumps({{"changed": [a for a, b in zip(after, before) if a != b], "modules": sorted(sys.modules)}}))
"""


def probe(statement: str, home: Path) -> dict[str, list[str]]:
    """Import in a new interpreter whose HOME and working folder are the empty ``home``."""
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "error",
    }
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def test_import_nsdflow_does_nothing(tmp_path: Path) -> None:
    seen = probe("import nsdflow", tmp_path)
    assert seen["changed"] == []
    assert list(tmp_path.iterdir()) == []
    assert [name for name in HEAVY if name in seen["modules"]] == []


def test_models_and_fit_need_torch_alone(tmp_path: Path) -> None:
    seen = probe("import nsdflow.models, nsdflow.fit", tmp_path)
    assert seen["changed"] == []
    assert [
        name for name in ("dask", "distributed", "zarr", "xarray", "nibabel", "pydantic") if name in seen["modules"]
    ] == []


def test_the_probe_sees_what_it_looks_for(tmp_path: Path) -> None:
    seen = probe("import os, numpy; os.environ['NSDFLOW'] = '1'; open('left', 'w').close()", tmp_path)
    assert len(seen["changed"]) == 1
    assert "numpy" in seen["modules"]
    assert [path.name for path in tmp_path.iterdir()] == ["left"]
