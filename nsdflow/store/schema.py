"""The schema of a store: every array with its dimensions, type, units, chunks and shards.

::

    nsd.zarr/
      stimuli/   images (image, channel, y, x) uint8                   coordinates of image: nsd_id, shared, coco_id
      subj01/    betas (trial, voxel) int16 (float32 in fsaverage)     coordinates of trial: session, run, nsd_id, ...
                 beta_mean, beta_std (session, voxel) float32          coordinates of voxel: flat_index, i, j, k, ...
                 valid, saturated (session, voxel) bool

Sizes of chunks and shards are those of :mod:`nsdflow.store.shard_sizes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

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
    "Statistic",
    "count_coordinates",
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


def scale_attributes(dtype: np.dtype[Any]) -> dict[str, Any]:
    """CF attributes of betas: integers have a scale factor, floats are already in percent signal change."""
    scale = {"scale_factor": float(np.float32(BETAS_SCALE))} if dtype.kind == "i" else {}
    return {"units": UNITS, "long_name": "single-trial response", **scale}
