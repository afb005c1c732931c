"""The stimuli: 425 x 425 RGB images in one brick, and their published preparation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nsdflow.errors import SelectionError, SourceError
from nsdflow.names import STIMULI_FILE
from nsdflow.nsd.formats.hdf5 import check_written

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nsdflow.nsd.source import Source

__all__ = ["images_shape", "read_images", "resize_images"]

_BRICK = "imgBrick"


def images_shape(source: Source) -> tuple[int, int, int, int]:
    """(image, y, x, channel) of the brick, from its header.

    Raises
    ------
    MissingDataError
        The brick does not exist.
    SourceError
        It does not hold 8-bit RGB images.
    """
    with source.open_hdf5(STIMULI_FILE, _BRICK) as brick:
        if brick.ndim != 4 or brick.shape[3] != 3 or brick.dtype != np.uint8:
            raise SourceError(
                f"{source.join(STIMULI_FILE)}: {brick.dtype} {brick.shape} where NSD has uint8 "
                "(image, y, x, 3); fetch it again"
            )
        count, height, width, channels = (int(size) for size in brick.shape)
    return count, height, width, channels


def read_images(source: Source, nsd_ids: ArrayLike) -> NDArray[np.uint8]:
    """Images (image, y, x, 3) uint8, RGB, by their 0-based ``nsd_id``, in the requested order.

    Neighbours in the brick are read together.

    Raises
    ------
    SelectionError
        No such image.
    """
    wanted = np.asarray(nsd_ids, dtype=np.int64).ravel()
    count, *image = images_shape(source)
    if len(wanted) and not 0 <= wanted.min() <= wanted.max() < count:
        bad = wanted.min() if wanted.min() < 0 else wanted.max()
        raise SelectionError(f"nsd_id {bad}: {source.join(STIMULI_FILE)} has 0 to {count - 1}")
    unique, places = np.unique(wanted, return_inverse=True)
    out = np.empty((len(unique), *image), np.uint8)
    with source.open_hdf5(STIMULI_FILE, _BRICK) as brick:
        check_written(brick)
        for rows in np.split(np.arange(len(unique)), np.flatnonzero(np.diff(unique) > 1) + 1):
            if len(rows):
                first, last = int(rows[0]), int(rows[-1])
                brick.read_direct(out, np.s_[int(unique[first]) : int(unique[last]) + 1], np.s_[first : last + 1])
    return out if np.array_equal(unique, wanted) else out[places]


def resize_images(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize images (image, y, x, 3) uint8 to (image, 3, size, size), as published.

    The published preparation is PIL's bilinear filter (antialiased) on uint8, without a crop.
    """
    out = np.empty((len(images), 3, size, size), np.uint8)
    for small, image in zip(out, images, strict=True):
        resized = Image.fromarray(image).resize((size, size), resample=Image.Resampling.BILINEAR)
        small[:] = np.asarray(resized).transpose(2, 0, 1)
    return out
