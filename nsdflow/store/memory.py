"""Fresh memory for large arrays.

Memory that a process has not touched yet arrives page by page. At 4 KiB a page, that takes longer than z-scoring what
the pages will hold; the allocator asks for huge pages too seldom, and never for the blocks of a query of one area.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["fresh_array"]

#: A huge page; smaller arrays are left to the allocator, which has memory to use again.
HUGE_PAGE: Final = 2 << 20


def fresh_array(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array to be filled, as :func:`numpy.empty`, in huge pages where it is large and the system has them.

    Its memory is rounded up to whole huge pages, and given back to the system with the array.
    """
    kind, count = np.dtype(dtype), prod(shape)
    size = count * kind.itemsize
    if size < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(tuple(shape), kind)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, -(-size // HUGE_PAGE) * HUGE_PAGE, flags=flags)  # only whole ones are aligned to them
    with suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, kind, count).reshape(tuple(shape))
