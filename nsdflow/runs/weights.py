"""Weights of linear runs, ``weights.zarr`` in the run folder: one array (voxel, feature) per subject and layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import xarray as xr

from nsdflow.io.folders import exists, list_folder

__all__ = ["WEIGHTS_FOLDER", "has_weights", "open_group_weights", "weights_of"]

#: Name of the folder.
WEIGHTS_FOLDER: Final = "weights.zarr"


def has_weights(url: str) -> bool:
    """Whether a group of :data:`WEIGHTS_FOLDER` holds an array."""
    return exists(f"{url}/weights/zarr.json")


def open_group_weights(url: str, voxels: xr.Dataset) -> xr.DataArray:
    """Open the weights (voxel, feature) of a group, with the coordinates of ``voxels``; values are read when used."""
    weights: xr.DataArray = xr.open_zarr(url, chunks=None, consolidated=False)["weights"]
    labels = weights.attrs.pop("labels", None)
    names = [name for name, one in voxels.coords.items() if one.dims == ("voxel",)]
    weights = weights.assign_coords({name: voxels[name] for name in names})
    return weights.assign_coords(label=("feature", np.asarray(labels))) if labels else weights


def weights_of(run: str, subject: str, voxels: xr.Dataset) -> Iterator[xr.DataArray]:
    """Weights of all layers of a subject, named ``weights_LAYER``; none where the run keeps no weights."""
    root = f"{run}/{WEIGHTS_FOLDER}/{subject}"
    for group in sorted(list_folder(root)) if exists(root) else []:
        if has_weights(f"{root}/{group}"):
            yield open_group_weights(f"{root}/{group}", voxels).rename(f"weights_{group}")
