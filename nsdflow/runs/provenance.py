"""Provenance of results: versions, commit and machine, as plain data for ``run.yaml`` and manifests."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nsdflow

__all__ = ["commit", "provenance"]

RECORDED_PACKAGES = (
    "nsdflow",
    "torch",
    "numpy",
    "scipy",
    "dask",
    "distributed",
    "xarray",
    "zarr",
    "nibabel",
    "isal",
    "pillow",
)


def provenance() -> dict[str, Any]:
    """Versions of the packages, the commit if this is a checkout, and the machine of the driver."""
    return {
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in RECORDED_PACKAGES}},
        "machine": {"host": socket.gethostname(), "system": platform.platform(), "cpus": os.cpu_count()},
    }


def commit() -> str | None:
    """Commit of the checkout that runs, with ``+changes`` if files differ; None for an installed package."""
    root = Path(nsdflow.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):  # no git on this machine, or a checkout of another user
        return None
    return head + ("+changes" if changed else "")


def _git(root: Path, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *command], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
