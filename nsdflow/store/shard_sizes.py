"""Sizes of chunks and shards: the defaults, and what follows from the sizes of the data and the file budget."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from nsdflow.config.storage import Layout
from nsdflow.errors import StoreError
from nsdflow.store.schema import STATISTICS

__all__ = ["MASK_SHARD_BYTES", "Cut", "cut_images", "cut_subject"]

#: Default size of a shard of betas, which suits parallel file systems; larger if the file budget needs it.
SHARD_BYTES: Final = 32 << 20
#: Default number of images per shard; more if the file budget needs it.
SHARD_IMAGES: Final = 512
#: Default size of a shard of COCO's masks.
MASK_SHARD_BYTES: Final = 64 << 20

#: Inner chunks hold about this many bytes at most, small enough that an ROI wastes little and large enough to stream.
CHUNK_BYTES: Final = 2 << 20
#: Inner chunks of images hold about this many bytes: one image of 227 pixels, so that images in any order cost no more
#: than their own bytes.
IMAGE_CHUNK_BYTES: Final = 192 << 10
#: An inner chunk of the session statistics, in chunks of the betas.
STATISTICS_CHUNKS: Final = 16


@dataclass(frozen=True)
class Cut:
    """Shapes of the inner chunks and shards of an array along its first two axes, and the number of its files."""

    chunk: tuple[int, int]
    shard: tuple[int, int]
    files: int
    codec: str

    @property
    def statistics_chunk(self) -> int:
        """Voxels of an inner chunk of the session statistics: a few chunks of the betas."""
        return self.chunk[1] * min(STATISTICS_CHUNKS, self.shard[1] // self.chunk[1])


def cut_subject(
    *, sessions: int, trials: int, voxels: int, itemsize: int, arrays: int, layout: Layout | None = None
) -> Cut:
    """Chunk and shard of a subject's betas such that all files of the subject stay within the budget.

    A chunk holds one session of ``layout.chunk_voxels`` voxels, halved until the chunk has at most 2 MiB. A shard holds
    one session of about 32 MiB of chunks, or of as many as the budget needs.

    Parameters
    ----------
    sessions, trials, voxels : int
        Sessions of the subject, trials of one session, voxels.
    itemsize : int
        Bytes of a beta.
    arrays : int
        Coordinates of the subject's group.

    Raises
    ------
    StoreError
        Even one file per session is more than the budget allows, or ``layout.shard_voxels`` gives too many.
    """
    layout = layout or Layout()
    chunk = layout.chunk_voxels
    while chunk > 1 and trials * chunk * itemsize > CHUNK_BYTES:
        chunk //= 2
    chunks = max(1, ceil(voxels / chunk))
    # metadata of the group and of its betas; statistics and coordinates have two files each
    fixed = 2 + 2 * len(STATISTICS) + 2 * arrays
    if layout.shard_voxels is None:
        columns = max(1, (layout.file_budget - fixed) // sessions)
        usual = ceil(SHARD_BYTES / (trials * chunk * itemsize))
        shard_chunks = min(chunks, max(usual, ceil(chunks / columns)))
    else:
        shard_chunks = max(1, round(layout.shard_voxels / chunk))
    files = fixed + sessions * ceil(chunks / shard_chunks)
    if files > layout.file_budget:
        raise StoreError(
            f"{files} files per subject where the budget allows {layout.file_budget}; "
            "raise layout.file_budget, or leave layout.shard_voxels to be chosen"
        )
    return Cut((trials, chunk), (trials, chunk * shard_chunks), files, layout.codec)


def cut_images(*, images: int, size: int, arrays: int, layout: Layout | None = None) -> Cut:
    """Chunk and shard of the images: a few to a chunk; shards of 512 images, or as ``layout`` or the budget ask."""
    layout = layout or Layout()
    usual = layout.shard_images or SHARD_IMAGES
    chunk = max(1, min(IMAGE_CHUNK_BYTES // (3 * size * size), usual, images))
    fixed = 2 + 2 * arrays
    least = ceil(images / max(1, layout.file_budget - fixed))
    shard = chunk * ceil(min(max(usual, least), max(1, images)) / chunk)
    return Cut((chunk, 3), (shard, 3), fixed + ceil(images / shard), "none")
