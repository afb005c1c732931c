"""Images by slices of the brick, and their published preparation."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nsdflow.errors import MissingDataError, SelectionError, SourceError
from nsdflow.names import STIMULI_FILE
from nsdflow.nsd.images import images_shape, read_images, resize_images
from nsdflow.nsd.source import open_source


@given(nsd_ids=st.lists(st.integers(0, 16), max_size=30))
def test_any_selection_in_any_order(nsd: Any, nsd_ids: list[int]) -> None:
    found = read_images(open_source(nsd.root), nsd_ids)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, nsd.images[nsd_ids])


def test_neighbours_are_read_together(nsd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    original = h5py.Dataset.read_direct

    def counting(self: h5py.Dataset, *arguments: Any) -> None:
        reads.append(arguments[1])
        original(self, *arguments)

    monkeypatch.setattr(h5py.Dataset, "read_direct", counting)
    read_images(open_source(nsd.root), [9, 1, 3, 2, 10, 3, 16])
    assert reads == [slice(1, 4), slice(9, 11), slice(16, 17)]


@pytest.mark.parametrize("size", [5, 9, 16])
def test_resizing_is_pil_bilinear(nsd: Any, size: int) -> None:
    found = resize_images(nsd.images[:4], size)
    assert found.shape == (4, 3, size, size)
    for image, small in zip(nsd.images[:4], found, strict=True):
        wanted = np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR))
        np.testing.assert_array_equal(small, np.moveaxis(wanted, 2, 0))


def test_resizing_by_half_is_antialiased() -> None:
    """A triangle of two source pixels half-width: the mean of four columns, weights 1 3 3 1."""
    column = np.array([0, 0, 80, 160, 40, 0, 0, 0], np.uint8)
    image = np.broadcast_to(column[None, :, None], (8, 8, 3))
    found = resize_images(np.ascontiguousarray(image)[None], 4)[0, 0, 1]
    inside = [
        (column[2 * i - 1] + 3.0 * column[2 * i] + 3.0 * column[2 * i + 1] + column[2 * i + 2]) / 8 for i in (1, 2)
    ]
    np.testing.assert_allclose(found[1:3], inside, atol=0.51)


def test_resizing_nothing() -> None:
    assert resize_images(np.empty((0, 9, 9, 3), np.uint8), 4).shape == (0, 3, 4, 4)


def test_shape(nsd: Any) -> None:
    assert images_shape(open_source(nsd.root)) == nsd.images.shape


@pytest.mark.parametrize("nsd_ids", [[17], [-1, 3]])
def test_no_such_image(nsd: Any, nsd_ids: list[int]) -> None:
    with pytest.raises(SelectionError, match=r"nsd_id (17|-1): .*has 0 to 16"):
        read_images(open_source(nsd.root), nsd_ids)


def test_missing_and_broken(broken: Any) -> None:
    source, path = open_source(broken.root), broken.root / STIMULI_FILE
    content = path.read_bytes()
    with h5py.File(path, "w") as file:
        file["imgBrick"] = np.zeros((4, 9, 9), np.uint8)
    with pytest.raises(SourceError, match=f"^{path}: uint8 .4, 9, 9. where NSD has"):
        read_images(source, [0])
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=f"^{path}: cannot be read"):
        read_images(source, [0])
    path.unlink()
    with pytest.raises(MissingDataError, match=f"^{path}: no such file"):
        read_images(source, [0])
