"""The schema of a store: every array with its dimensions, type, units, chunks and shards.

::

    nsd.zarr/
      stimuli/   images (image, channel, y, x) uint8                   coordinates of image: nsd_id, shared, coco_id
      subj01/    betas (trial, voxel) int16 (float32 in fsaverage)     coordinates of trial: session, run, nsd_id, ...
                 beta_mean, beta_std (session, voxel) float32          coordinates of voxel: flat_index, i, j, k, ...
                 valid, saturated (session, voxel) bool

Sizes of chunks follow from sizes of data: :func:`cut_subject` and :func:`cut_images` compute them, and count files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import numpy as np

from nsdflow.config.storage import SHARD_BYTES, Layout
from nsdflow.errors import StoreError
from nsdflow.names import BETAS_SCALE

__all__ = [
    "ANNOTATIONS_GROUP",
    "COORDINATES",
    "FILL_VALUE",
    "HEMISPHERE_CODES",
    "SCHEMA",
    "SCHEMA_VERSION",
    "STATISTICS",
    "STIMULI_GROUP",
    "UNITS",
    "Coordinate",
    "Cut",
    "Statistic",
    "count_coordinates",
    "cut_images",
    "cut_subject",
    "scale_attributes",
]

#: Incremented when a reader of the old schema would misread a store of the new one.
SCHEMA_VERSION: Final = 1
#: Attribute of the root group that marks a Zarr group as an nsdflow store; its value is the schema version.
SCHEMA: Final = "nsdflow_schema"
#: The group of the images.
STIMULI_GROUP: Final = "stimuli"
#: Group of the annotations of the images.
ANNOTATIONS_GROUP: Final = "annotations"
#: Values of the coordinate ``hemisphere``.
HEMISPHERE_CODES: Final[Mapping[str, int]] = {"lh": 0, "rh": 1}
#: Fill value of integer betas: the least likely beta. A chunk that was never written is an error, not this value.
FILL_VALUE: Final = -32768
UNITS: Final = "percent signal change"

#: Inner chunks hold about this many bytes at most, small enough that an ROI wastes little and large enough to stream.
CHUNK_BYTES: Final = 2 << 20
#: Inner chunks of images hold about this many bytes: one image of 227 pixels, so that images in any order cost no more
#: than their own bytes.
IMAGE_CHUNK_BYTES: Final = 192 << 10
#: An inner chunk of the session statistics, in chunks of the betas.
STATISTICS_CHUNKS: Final = 16


@dataclass(frozen=True)
class Statistic:
    """An array (session, voxel) of a subject's group."""

    dtype: str
    fill_value: Any
    attributes: Mapping[str, str]


STATISTICS: Final[Mapping[str, Statistic]] = {
    "beta_mean": Statistic("float32", np.nan, {"long_name": "mean over the session's trials", "units": UNITS}),
    "beta_std": Statistic(
        "float32", np.nan, {"long_name": "standard deviation (ddof 0) over the session's trials", "units": UNITS}
    ),
    "valid": Statistic("bool", False, {"long_name": "voxel has data in every volume of the session"}),
    "saturated": Statistic("bool", False, {"long_name": "a beta of the session is at the limit of int16"}),
}


@dataclass(frozen=True)
class Coordinate:
    """Dimensions, type and meaning of a coordinate."""

    dims: tuple[str, ...]
    """Dimensions on which it occurs; a group has it on one of them."""
    dtype: str
    long_name: str
    units: str | None = None

    def attributes(self) -> dict[str, Any]:
        """CF attributes."""
        attributes = {"long_name": self.long_name}
        return attributes | ({"units": self.units} if self.units else {})


TRIAL, IMAGE, VOXEL, BOTH = ("trial",), ("image",), ("voxel",), ("trial", "image")

#: Known coordinates; atlases (int16 with flags), maps (float32) and behaviour (float64) come on top as they are found.
COORDINATES: Final[Mapping[str, Coordinate]] = {
    "session": Coordinate(TRIAL, "int64", "scan session, from 1"),
    "run": Coordinate(TRIAL, "int64", "run within the session, from 1"),
    "subject_image": Coordinate(TRIAL, "int64", "image in the subject's own list of 10,000, from 0"),
    "repetition": Coordinate(TRIAL, "int64", "presentation of the image to the subject, from 0"),
    "nsd_id": Coordinate(BOTH, "int64", "image among NSD's 73,000, from 0"),
    "shared": Coordinate(BOTH, "bool", "image shown to all subjects"),
    "coco_id": Coordinate(BOTH, "int64", "image in COCO"),
    "listed_by": Coordinate(IMAGE, "int64", "subject whose list holds the image, from 1; 0 is in all lists (shared)"),
    "flat_index": Coordinate(VOXEL, "int64", "index in the volume, C order (surface: vertex, left hemisphere first)"),
    "i": Coordinate(VOXEL, "int32", "first index in the volume, left to right"),
    "j": Coordinate(VOXEL, "int32", "second index in the volume, posterior to anterior"),
    "k": Coordinate(VOXEL, "int32", "third index in the volume, inferior to superior"),
    "hemisphere": Coordinate(VOXEL, "int16", "hemisphere of the voxel or vertex"),
    "ncsnr": Coordinate(VOXEL, "float32", "noise ceiling signal-to-noise ratio"),
    "roi": Coordinate(VOXEL, "int16", "visual area: prf-visualrois over Kastner2015; -1 is not cortex, 0 in none"),
}


def count_coordinates(*dims: str) -> int:
    """Number of known coordinates that a group with some dimensions can have, for its file budget.

    >>> count_coordinates("image")
    4
    """
    return sum(not set(dims).isdisjoint(coordinate.dims) for coordinate in COORDINATES.values())


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


def scale_attributes(dtype: np.dtype[Any]) -> dict[str, Any]:
    """CF attributes of betas: integers are to be multiplied, floats are percent signal change already."""
    scale = {"scale_factor": float(np.float32(BETAS_SCALE))} if dtype.kind == "i" else {}
    return {"units": UNITS, "long_name": "single-trial response", **scale}


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
    """Chunk and shard of the images: a few to a chunk, shards of ``layout.shard_images`` or as the budget asks."""
    layout = layout or Layout()
    chunk = max(1, min(IMAGE_CHUNK_BYTES // (3 * size * size), layout.shard_images, images))
    fixed = 2 + 2 * arrays
    least = ceil(images / max(1, layout.file_budget - fixed))
    shard = chunk * ceil(min(max(layout.shard_images, least), max(1, images)) / chunk)
    return Cut((chunk, 3), (shard, 3), fixed + ceil(images / shard), "none")
