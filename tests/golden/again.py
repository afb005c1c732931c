"""The golden tests once more, on other arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent


def run_again(names: Sequence[str], arrays: Path) -> str:
    """Output of the test modules ``names`` with the arrays of another folder, in another process."""
    options = ["-q", "-p", "no:cacheprovider", f"--confcutdir={FOLDER}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(str(FOLDER / f"{name}.py") for name in names)],
        env=os.environ | {"NSDFLOW_GOLDEN": str(arrays), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout
