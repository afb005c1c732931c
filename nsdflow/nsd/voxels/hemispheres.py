"""The hemisphere of each voxel of a volume, from the ROI files that NSD publishes for one hemisphere each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.errors import NsdflowError
from nsdflow.nsd import layout
from nsdflow.nsd.source import Source
from nsdflow.nsd.voxels.rois import list_atlases
from nsdflow.nsd.voxels.volumes import read_map

__all__ = ["hemisphere_files", "read_hemispheres"]

#: Atlases that cover all cortex, best first, and those of volumes, which have no -1.
_CORTEX: Final = ("nsdgeneral", "Kastner2015", "HCP_MMP1", "streams", "corticalsulc", "prf-visualrois")
_VOLUME: Final = ("MTL", "thalamus")


def hemisphere_files(source: Source, subject: str, space: str) -> dict[str, tuple[str, str]]:
    """Files of the left and the right hemisphere, by atlas: one atlas of cortex, and those of volumes."""
    names = list_atlases(source, subject, space)
    folder = layout.atlas_folder(subject, space)
    if folder is None or layout.is_surface(space):
        return {}
    pairs = {
        name: (f"{folder}/lh.{name}.nii.gz", f"{folder}/rh.{name}.nii.gz")
        for name in (*_CORTEX, *_VOLUME)
        if name in names
    }
    whole = {name: pair for name, pair in pairs.items() if all(source.find(path) for path in pair)}
    cortex = next((name for name in _CORTEX if name in whole), None)
    return {name: pair for name, pair in whole.items() if name == cortex or name in _VOLUME}


def read_hemispheres(
    source: Source, subject: str, space: str, *, shape: Sequence[int] | None = None
) -> NDArray[np.int16] | None:
    """Hemisphere of each voxel.

    Parameters
    ----------
    shape : sequence of int, optional
        The grid that the files must have.

    Returns
    -------
    numpy.ndarray or None
        Int16 (i, j, k): 0 left, 1 right, -1 where no file says so (white matter, outside the brain); None if no such
        file can be read.
    """
    found: NDArray[np.int16] | None = None
    for name, pair in hemisphere_files(source, subject, space).items():
        background = 0 if name in _VOLUME else -1
        try:
            left, right = (read_map(source, (path,), space, shape=shape).values > background for path in pair)
        except NsdflowError:  # reported where all atlases are read
            continue
        found = np.full(left.shape, -1, np.int16) if found is None else found
        found[left & ~right & (found < 0)] = 0
        found[right & ~left & (found < 0)] = 1
    return found
