"""The regions and maps of a subject as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from nsdflow.names import ROI_GROUPS
from nsdflow.store.query.regions import atlases_of, region_mask
from nsdflow.store.schema import HEMISPHERE_CODES
from nsdflow.store.voxels import labels_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["list_rois", "voxel_maps"]

#: Labels that mean "in none".
NONE: Final = ("Unknown", "not_cortex", "unlabelled")


def list_rois(voxels: xr.Dataset) -> pd.DataFrame:
    """All names that ``roi=`` accepts, with numbers of voxels; see :meth:`nsdflow.store.Store.rois`."""
    names: list[tuple[str, str]] = [("group", name) for name in ROI_GROUPS]
    names += [("roi", label) for label in labels_of(voxels["roi"].attrs) if label not in (*NONE, *ROI_GROUPS)]
    for atlas, labels in atlases_of(voxels).items():
        names.append((atlas, atlas))
        names += [(atlas, f"{atlas}:{label}") for label in labels if label not in NONE and label != atlas]
    masks = [region_mask(voxels, name) for _, name in names]
    columns: dict[str, Any] = {
        "roi": [name for _, name in names],
        "atlas": [atlas for atlas, _ in names],
        "voxels": [int(mask.sum()) for mask in masks],
    }
    if "hemisphere" in voxels.variables:
        side = voxels["hemisphere"].values
        for name, value in HEMISPHERE_CODES.items():
            columns[name] = [int((mask & (side == value)).sum()) for mask in masks]
    return pd.DataFrame(columns).set_index("roi")


def voxel_maps(voxels: xr.Dataset) -> xr.Dataset:
    """The statistics per voxel that are not labels; see :meth:`nsdflow.store.Store.maps`."""
    names = [
        name
        for name, variable in voxels.variables.items()
        if np.issubdtype(variable.dtype, np.floating) and not labels_of(variable.attrs)
    ]
    kept = [name for name in ("flat_index", "hemisphere") if name in voxels.variables]
    return voxels.reset_coords()[[*names, *kept]].set_coords(kept)
