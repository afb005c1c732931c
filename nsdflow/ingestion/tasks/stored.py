"""Coordinates of groups that are being built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from nsdflow.store.locations import zarr_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_coordinate"]


def read_coordinate(group: str, name: str) -> NDArray[Any]:
    """Values of a coordinate of a group, by path or URL."""
    return np.asarray(zarr.open_array(zarr_store(f"{group}/{name}"), mode="r", zarr_format=3)[:])
