"""Image preparation against the published cell; numbers and sizes come from the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from nsdflow.names import STIMULI_FILE
from nsdflow.nsd.images import read_images, resize_images
from nsdflow.nsd.source import open_source

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def arrays(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("resize")


def test_prepared_images_are_the_published_ones(arrays: Arrays, tmp_path: Path) -> None:
    cases = [name.removeprefix("before_") for name in arrays if name.startswith("before_")]
    assert cases
    for case in cases:
        path = tmp_path / case / STIMULI_FILE
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["imgBrick"] = arrays[f"before_{case}"]
        wanted = arrays[f"after_{case}"]
        images = read_images(open_source(tmp_path / case), arrays[f"subjectim_{case}"] - 1)
        np.testing.assert_array_equal(resize_images(images, wanted.shape[-1]), wanted)
