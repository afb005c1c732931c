"""Runs a saved model in a process that refuses all libraries except torch and safetensors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

PROGRAM = """
import sys

for name in ("dask", "distributed", "zarr", "xarray", "nibabel", "pydantic", "yaml", "h5py", "pandas"):
    sys.modules[name] = None  # importing it raises ImportError

import torch
import nsdflow

torch.set_num_threads(1)
model = nsdflow.load_model(sys.argv[1], sys.argv[2])
torch.save(model(torch.load(sys.argv[3])), sys.argv[3])
"""


def predict_alone(run: str | Path, subject: str, images: torch.Tensor, place: Path, *paths: Path) -> np.ndarray:
    """Predictions (image, voxel) of a saved model in such a process, which can import from ``paths``."""
    file = place / "images.pt"
    torch.save(images, file)
    known = os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run), subject, str(file)],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": known},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return torch.load(file).numpy()
