"""Fresh memory for large arrays.

The system hands out fresh memory page by page. With pages of 4 KiB, this takes longer than z-scoring the values that
the pages will hold. The allocator rarely requests huge pages, and never for the blocks of a query of one area.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["fresh_array"]

#: Bytes of a huge page; the allocator serves smaller arrays from memory that it can reuse.
HUGE_PAGE_BYTES: Final = 2 << 20


def fresh_array(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised array as from :func:`numpy.empty`; a large one is in huge pages where the system has them.

    Its memory is rounded up to whole huge pages, and given back to the system with the array.
    """
    kind, count = np.dtype(dtype), prod(shape)
    size = count * kind.itemsize
    if size < HUGE_PAGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(tuple(shape), kind)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(
        -1, -(-size // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES, flags=flags
    )  # only whole ones are aligned to them
    with suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, kind, count).reshape(tuple(shape))
