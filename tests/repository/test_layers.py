"""The contract between the layers holds, and can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the copy of nsdflow in ``folder``."""
    run = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", run, "--no-cache"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "nsdflow", tmp_path / "nsdflow", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contract_holds(copy: Path) -> None:
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "violation"),
    [
        ("nsdflow/store/planted.py", "import torch"),
        ("nsdflow/nsd/planted.py", "import zarr"),
        ("nsdflow/models/planted.py", "import dask"),
        ("nsdflow/store/planted.py", "from nsdflow import pipelines"),
        ("nsdflow/analysis/planted.py", "from nsdflow import fit"),
    ],
)
def test_planted_violation_is_found(copy: Path, module: str, violation: str) -> None:
    (copy / module).write_text(violation + "\n")
    done = lint_imports(copy)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
