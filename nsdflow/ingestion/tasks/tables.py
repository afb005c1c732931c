"""Task: the group of a subject with the coordinates of its trials and voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.engine.plan import task
from nsdflow.errors import NsdflowError, SourceError
from nsdflow.ingestion.stamps import coordinate_stamps
from nsdflow.ingestion.tasks.jobs import SubjectJob, TableJob
from nsdflow.io.paths import public
from nsdflow.names import atlas_coordinate
from nsdflow.nsd import layout as paths
from nsdflow.nsd.design import trial_table
from nsdflow.nsd.voxels.hemispheres import read_hemispheres
from nsdflow.nsd.voxels.maps import map_record, maps_by_file, read_published_maps
from nsdflow.nsd.voxels.masks import voxel_set
from nsdflow.nsd.voxels.rois import joined_roi, read_atlas
from nsdflow.nsd.voxels.volumes import read_ncsnr
from nsdflow.store.build import create_subject
from nsdflow.store.voxels import voxel_table

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.nsd.source import Source

__all__ = ["create_subject_group"]


@task("ingest.coordinates", version=2)
def create_subject_group(job: TableJob) -> dict[str, Any]:
    """Create a subject's group with the coordinates of its trials and voxels, and the large arrays without values.

    Raises
    ------
    SourceError
        A file changed since the ingestion was planned, or gives another number of voxels.
    """
    subject = job.subject
    source = subject.source
    now = coordinate_stamps(source, subject.subject, subject.space, subject.betas)
    if now != dict(job.stamps):
        changed = sorted(file for file in now.keys() | job.stamps.keys() if now.get(file) != job.stamps.get(file))
        raise SourceError(
            f"{source.join(changed[0])}: changed since the ingestion was planned; run the same command again"
        )
    voxels, left_out = _read_voxels(source, job)
    trials = trial_table(source, subject.subject, subject.sessions)
    if voxels.sizes["voxel"] != subject.voxel_count:
        raise SourceError(
            f"{subject.subject}: {voxels.sizes['voxel']} voxels in {subject.settings.voxels} where "
            f"{subject.voxel_count} were planned; the source changed, run the same command again"
        )
    create_subject(
        subject.built,
        subject.subject,
        trials=trials,
        voxels=voxels,
        sessions=len(subject.sessions),
        dtype=subject.dtype,
        cut=subject.cut,
        attributes={
            "subject": subject.subject,
            "space": subject.space,
            "betas_version": subject.betas,
            "voxel_set": subject.settings.voxels,
            "sessions": list(subject.sessions),
            "shape": list(subject.shape),
            "source": public(source.url),
        }
        | ({"affine": list(subject.affine)} if subject.affine else {}),
    )
    return {"trials": trials.sizes["trial"], "voxels": subject.voxel_count} | (
        {"left_out": left_out} if left_out else {}
    )


def _read_voxels(source: Source, job: TableJob) -> tuple[xr.Dataset, list[str]]:
    """Coordinates of the voxels of a set in the order of the store, and a line per map that cannot be read."""
    subject, space, shape = job.subject.subject, job.subject.space, job.subject.shape
    mask = voxel_set(source, subject, job.subject.settings.voxels, space=space, shape=shape)
    atlases = {name: read_atlas(source, subject, name, space, shape=shape) for name in job.atlases}
    if atlases.keys().isdisjoint(("prf-visualrois", "Kastner2015")):
        roi = np.full(mask.shape, -1, np.int16)  # no file says which vertices are cortex
    else:
        roi = joined_roi(source, subject, space, shape=shape).values
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
