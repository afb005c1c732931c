"""Fresh memory is an ordinary array, of whatever size and on whatever system."""

from __future__ import annotations

import mmap
import pickle

import numpy as np
import pytest

from nsdflow.store.memory import HUGE_PAGE_BYTES, fresh_array

SIZES = [(0, 7), (3, 5), (HUGE_PAGE_BYTES // 4 - 1,), (HUGE_PAGE_BYTES // 4,), (3, HUGE_PAGE_BYTES // 4 + 1)]


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_it_is_an_ordinary_array(shape: tuple[int, ...]) -> None:
    values = fresh_array(shape, np.float32)
    assert (values.shape, values.dtype) == (shape, np.float32)
    assert values.flags.c_contiguous
    assert values.flags.writeable
    values[...] = np.arange(values.size).reshape(shape)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(values)).ravel(), np.arange(values.size))


def test_large_arrays_lie_on_pages_of_their_own() -> None:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        pytest.skip("no huge pages on this system")
    assert fresh_array((HUGE_PAGE_BYTES,), np.uint8).base is not None
    assert fresh_array((HUGE_PAGE_BYTES - 1,), np.uint8).base is None


def test_without_huge_pages_it_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert fresh_array((2, HUGE_PAGE_BYTES), np.uint8).base is None
