"""Properties of one machine, gathered on the driver and, as a task, on a worker of each pool."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
from distributed import get_worker

from nsdflow.cluster.deadline import deadline

__all__ = ["COMPARED_PACKAGES", "environment", "interface_of", "open_to_others", "probe"]

#: Packages whose versions must agree between driver and workers, for messages and for results.
COMPARED_PACKAGES: Final = (
    "nsdflow",
    "dask",
    "distributed",
    "msgpack",
    "cloudpickle",
    "numpy",
    "torch",
    "xarray",
    "zarr",
)


def environment() -> dict[str, str]:
    """Versions of Python and of :data:`COMPARED_PACKAGES` in this process."""
    versions = {"python": platform.python_version()}
    for package in COMPARED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "missing"
    return versions


def probe(folder: str, token: str) -> dict[str, Any]:
    """Describe the worker that runs this task.

    Parameters
    ----------
    folder, token : str
        A folder, and the name of a file that the driver wrote there. The file system is shared if the worker sees it.
    """
    import torch  # takes a while, and only workers need it

    worker = get_worker()
    scratch = Path(worker.local_directory)
    files = os.statvfs(scratch).f_favail
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "host": socket.gethostname(),
        "address": worker.address,
        "interface": interface_of(worker.address),
        "executable": sys.executable,
        "environment": environment(),
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory} for gpu in gpus],
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "scratch": str(scratch),
        "scratch_free": shutil.disk_usage(scratch).free,
        "scratch_files": files,
        "memory_limit": worker.memory_manager.memory_limit,
        "threads": worker.state.nthreads,
        "shared": (Path(folder) / token).exists(),
        "seconds_left": None if (ends := deadline()) is None else ends - time.time(),
    }


def interface_of(address: str) -> str:
    """The network interface of an address such as ``tls://10.0.0.7:41233``, with its speed where that is known."""
    host = urlsplit(address).hostname
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == host for one in addresses):
            speed = psutil.net_if_stats()[name].speed  # Mbit/s, 0 if the driver does not report it
            return f"{name}, {speed / 1000:g} Gbit/s" if speed else name
    return "no network interface"


def open_to_others(path: str | Path) -> str:
    """Return the access of users outside the owner's group to a folder: ``write``, ``read``, or an empty string.

    A folder below one that others cannot enter is closed, whatever its own mode.
    """
    resolved = Path(path).resolve()
    if any(not parent.stat().st_mode & 0o001 for parent in resolved.parents):
        return ""
    mode = resolved.stat().st_mode
    return "write" if mode & 0o002 else "read" if mode & 0o004 else ""
