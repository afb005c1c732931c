"""The memory model of tasks: planned peak memory as a sum of named terms.

A planner writes what a task holds at its peak, term by term::

    Memory.with_torch(images=..., responses=3 * ..., network=...)

The sum is an ``int`` of bytes. A refused plan shows its terms, so that a user sees which are large. Measured peaks are
recorded in the done-markers (``peak_memory``); a test compares them with the plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nsdflow.io.text import format_bytes

__all__ = ["BASE_BYTES", "NUMPY_BYTES", "Memory", "process_peak"]

#: Bytes of the interpreter with numpy, zarr, xarray and Dask before any data.
NUMPY_BYTES: Final = 250 << 20
#: The same with torch and the buffers of its allocator.
BASE_BYTES: Final = 700 << 20


class Memory(int):
    """Bytes that a task holds at its peak, with the terms of the sum.

    >>> memory = Memory.of(images=1 << 30, responses=1 << 20)
    >>> memory == (1 << 30) + (1 << 20)
    True
    >>> memory.explain()
    'images 1.00 GiB, responses 1.00 MiB'
    """

    terms: Mapping[str, int]

    @classmethod
    def of(cls, **terms: float) -> Memory:
        """Sum terms in bytes."""
        rounded = {name: int(size) for name, size in terms.items()}
        memory = cls(sum(rounded.values()))
        memory.terms = rounded
        return memory

    @classmethod
    def with_numpy(cls, **terms: float) -> Memory:
        """Sum terms of a task that does not import torch."""
        return cls.of(libraries=NUMPY_BYTES, **terms)

    @classmethod
    def with_torch(cls, **terms: float) -> Memory:
        """Sum terms of a task that imports torch."""
        return cls.of(libraries=BASE_BYTES, **terms)

    def explain(self) -> str:
        """The terms, the largest first."""
        ordered = sorted(self.terms.items(), key=lambda term: -term[1])
        return ", ".join(f"{name.replace('_', ' ')} {format_bytes(size)}" for name, size in ordered if size)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (dict(self.terms),)


def _restore(terms: dict[str, int]) -> Memory:
    return Memory.of(**terms)


def process_peak() -> int | None:
    """Largest resident size of this process so far, in bytes; None where the system does not report it (not Linux)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()  # getrusage includes the parent before exec
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), None)
