"""Weights of raw features, written by tasks and opened by layer.

The array is created with the system of the layer. Each block of voxels writes its own rows, by blocks of features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import zarr

from nsdflow.errors import MissingDataError
from nsdflow.io.reach import writing
from nsdflow.pipelines.features.tasks import group_of
from nsdflow.runs import open_run
from nsdflow.runs.weights import WEIGHTS_FOLDER, has_weights, open_group_weights

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor

    from nsdflow.pipelines.features.source import FeatureTable

__all__ = ["create_weights", "open_weights", "write_weights"]

#: Features per chunk.
WEIGHTS_CHUNK_FEATURES = 256


def _url(folder: str, subject: str, layer: str) -> str:
    return f"{folder}/{WEIGHTS_FOLDER}/{subject}/{group_of(layer)}"


def create_weights(folder: str, subject: str, table: FeatureTable, voxels: int, rows: int) -> None:
    """Create the array (voxel, feature) of one layer, in place of an earlier one.

    Parameters
    ----------
    table : FeatureTable
        Features of the layer.
    rows : int
        Voxels that one task writes.
    """
    url = _url(folder, subject, table.name)
    with writing(url):
        zarr.open_group(url, mode="w").create_array(
            "weights",
            shape=(voxels, table.count),
            chunks=(min(rows, voxels), min(WEIGHTS_CHUNK_FEATURES, table.count)),
            dtype="float32",
            fill_value=np.nan,
            compressors=None,
            dimension_names=("voxel", "feature"),
            attributes={"long_name": "weight per unit of the raw feature"} | ({"labels": list(table.labels or ())}),
        )


def write_weights(folder: str, subject: str, layer: str, start: int, columns: slice, weights: Tensor) -> None:
    """Write the weights (voxel, feature) of a block of voxels from ``start`` on for some features."""
    url = f"{_url(folder, subject, layer)}/weights"
    with writing(url):
        zarr.open_array(url, mode="r+")[start : start + len(weights), columns] = weights.numpy()


def open_weights(run: str, subject: str, layer: str) -> xr.DataArray:
    """Open the weights of one layer of a ridge run; values are read when they are used.

    Parameters
    ----------
    run : path or URL
        Folder of a finished run of kind ``ridge`` with ``weights: true``.
    subject : str
        Such as ``"subj01"``.
    layer : str
        Layer, array or space of the annotations.

    Returns
    -------
    DataArray
        (voxel, feature) weights of raw features, with the voxel coordinates of the run, and the coordinate ``label``
        (feature) where features have names.

    Raises
    ------
    MissingDataError
        The run has no weights of this layer.
    """
    url = _url(str(run).rstrip("/"), subject, layer)
    voxels = open_run(run)[subject].to_dataset()
    if not has_weights(url):
        raise MissingDataError(f"{run}: no weights of {subject} on {layer}; run it with --set weights=true")
    return open_group_weights(url, voxels)
