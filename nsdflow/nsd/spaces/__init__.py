"""Between the spaces of NSD: volumes of function and anatomy, MNI, native surfaces, fsaverage."""

from __future__ import annotations

from nsdflow.nsd.spaces.grids import GRIDS, LAYERS, affine_of, grid_named
from nsdflow.nsd.spaces.mapping import METHODS, SpaceMap, open_map, targets_of
from nsdflow.nsd.spaces.sampling import Points, cast_values, sample, valid_points
from nsdflow.nsd.spaces.splatting import splat

__all__ = [
    "GRIDS",
    "LAYERS",
    "METHODS",
    "Points",
    "SpaceMap",
    "affine_of",
    "cast_values",
    "grid_named",
    "open_map",
    "sample",
    "splat",
    "targets_of",
    "valid_points",
]
