"""Arrays of numbers in MATLAB's files, with scipy's writer and reader as oracle."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nsdflow.errors import SourceError
from nsdflow.nsd.formats.mat import read_whole_numbers
from nsdflow.nsd.source import open_source

TYPES = st.sampled_from([np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64, np.bool_])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)


@given(
    arrays=st.dictionaries(
        st.sampled_from(["a", "masterordering", "stimpattern", "x" * 31]),
        TYPES.flatmap(
            lambda kind: hnp.arrays(kind, SHAPES, elements=st.booleans() if kind is np.bool_ else st.integers(0, 120))
        ),
        min_size=1,
    ),
    compressed=st.booleans(),
)
def test_any_arrays_are_those_of_scipy(tmp_path_factory, arrays: dict[str, np.ndarray], compressed: bool) -> None:
    folder = tmp_path_factory.mktemp("mat")
    others = {"text": "hello", "cells": np.array([["a", 1]], object), "complex": np.ones(2) * 1j}
    scipy.io.savemat(folder / "a.mat", {**others, **arrays}, do_compression=compressed)
    found = read_whole_numbers(open_source(folder), "a.mat", tuple(arrays), optional=("nowhere",))
    wanted = scipy.io.loadmat(folder / "a.mat")
    assert found.keys() == arrays.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, wanted[name])
    for name in others:
        with pytest.raises(SourceError, match=rf"a\.mat: {name} is not whole numbers"):
            read_whole_numbers(open_source(folder), "a.mat", (name,))


def test_other_formats_are_one_line(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "old.mat", {"a": np.ones(3)}, format="4")
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\x02IM" + b"\x89HDF")
    for name in ("old.mat", "new.mat"):
        with pytest.raises(SourceError, match=rf"{name}: not a readable MAT file of format 5 .*; fetch it again"):
            read_whole_numbers(open_source(tmp_path), name, ("a",))


@pytest.mark.parametrize("compressed", [True, False])
def test_no_damage_ends_the_process(tmp_path: Path, compressed: bool) -> None:
    """scipy's reader crashes on some of these."""
    draw, file = random.Random(0), tmp_path / "a.mat"
    scipy.io.savemat(file, {"a": np.arange(60).reshape(3, 4, 5), "b": np.ones(7)}, do_compression=compressed)
    data, refused = file.read_bytes(), 0
    for number in range(1500):
        changed = bytearray(data[: draw.randrange(len(data))] if number % 10 == 0 else data)
        for _ in range(draw.choice([1, 1, 8])):
            if changed:
                changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        file.write_bytes(changed)
        try:
            assert read_whole_numbers(open_source(tmp_path), "a.mat", ("a", "b")).keys() == {"a", "b"}
        except SourceError:
            refused += 1
    assert refused > 100
