"""Resources of a task: its device, its threads, and reading within the task instead of through the scheduler."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nsdflow.errors import PlanError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["available_cpus", "choose_device", "gpu_memory", "read_here", "torch_threads", "weights_cache"]


def choose_device(wanted: str) -> torch.device:
    """Choose the device: ``auto`` is the GPU of this worker, or the CPU if it has none.

    Parameters
    ----------
    wanted : str
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    PlanError
        A GPU is demanded and torch finds none.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise PlanError("device: cuda, but torch finds no GPU on this worker; run nsdflow doctor, or set device=cpu")
    return torch.device(wanted)


def gpu_memory(device: torch.device) -> int | None:
    """Peak GPU memory of this process in bytes; None on the CPU."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def available_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_here(lazy: xr.DataArray) -> xr.DataArray:
    """Compute a lazy array with threads of this process.

    By default Dask sends a computation within a task back to the scheduler as further tasks: other workers would read,
    and the values would travel through the network.
    """
    return lazy.compute(scheduler="threads", num_workers=available_cpus())


@contextmanager
def torch_threads(threads: int | None, *, share: int = 1) -> Iterator[None]:
    """Set the number of torch threads while the block runs; Dask starts its workers with one.

    Parameters
    ----------
    threads : int or None
        Number of threads; by default the CPUs of the machine divided by ``share``.
    share : int
        Number of such tasks that may run at once.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or max(1, available_cpus() // share))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def weights_cache() -> Path:
    """Folder that keeps downloaded weights: ``$XDG_CACHE_HOME/nsdflow``, by default ``~/.cache/nsdflow``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nsdflow"
