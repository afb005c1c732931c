"""The voxels of an ingestion: which ones, and their coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.errors import NsdflowError
from nsdflow.names import atlas_coordinate
from nsdflow.nsd import layout as paths
from nsdflow.nsd.voxels.hemispheres import read_hemispheres
from nsdflow.nsd.voxels.maps import map_record, maps_by_file, read_published_maps
from nsdflow.nsd.voxels.masks import voxel_set
from nsdflow.nsd.voxels.rois import joined_roi, read_atlas
from nsdflow.nsd.voxels.volumes import read_ncsnr
from nsdflow.store.voxels import voxel_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.ingestion.settings import IngestSettings
    from nsdflow.ingestion.tasks.jobs import SubjectJob, TableJob
    from nsdflow.nsd.source import Source

__all__ = ["read_voxels", "voxel_mask"]


def voxel_mask(source: Source, subject: str, settings: IngestSettings, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Mask of the voxels of a subject that an ingestion takes, on the whole grid, for its plan and its tasks.

    Parameters
    ----------
    shape : sequence of int
        Grid of the betas.
    """
    return voxel_set(source, subject, settings.voxels, space=settings.space, shape=tuple(shape))


def read_voxels(job: TableJob) -> tuple[xr.Dataset, list[str]]:
    """Coordinates of the voxels of a set in the order of the store, and a line per map that cannot be read."""
    source, subject, space, shape = job.subject.source, job.subject.subject, job.subject.space, job.subject.shape
    mask = voxel_mask(source, subject, job.subject.settings, shape)
    atlases = {name: read_atlas(source, subject, name, space, shape=shape) for name in job.atlases}
    if atlases.keys().isdisjoint(("prf-visualrois", "Kastner2015")):
        roi = np.full(mask.shape, -1, np.int16)  # no file says which vertices are cortex
    else:
        roi = joined_roi(source, subject, space, shape=shape, among=atlases).values
    table = voxel_table(
        np.flatnonzero(mask),
        tuple(shape),
        roi=roi,
        atlases={name: (atlas.values, atlas.labels) for name, atlas in atlases.items()},
        ncsnr=_ncsnr(source, job.subject),
        affine=job.subject.affine,
        hemisphere=None if paths.is_surface(space) else read_hemispheres(source, subject, space, shape=shape),
    )
    maps: dict[str, Any] = {}
    left_out, there = [], table["flat_index"].values
    for names in maps_by_file(job.maps, subject, space, job.subject.betas):
        try:
            read = read_published_maps(source, names, subject, space, job.subject.betas, shape=shape)
        except NsdflowError as error:  # betas do not depend on a map
            left_out += [f"{error}; the map {name} is left out" for name in names]
        else:
            for name, values in read.items():
                maps[atlas_coordinate(name)] = ("voxel", values.ravel()[there], map_record(name).attributes)
    return table.assign_coords(maps), left_out


def _ncsnr(source: Source, job: SubjectJob) -> NDArray[Any] | None:
    files = paths.statistic_paths(job.subject, job.space, job.betas, "ncsnr")
    if not all(source.find(path) for path in files):
        return None
    return read_ncsnr(source, job.subject, space=job.space, betas=job.betas, shape=job.shape).values
