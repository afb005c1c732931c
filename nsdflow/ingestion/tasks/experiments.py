"""Tasks: the group of a sister experiment, its images, and its noise-ceiling signal-to-noise ratios."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis import estimate_ncsnr
from nsdflow.engine.plan import task
from nsdflow.errors import SourceError, StoreError
from nsdflow.ingestion.stamps import experiment_stamps
from nsdflow.ingestion.tasks.images import SAMPLED_IMAGES
from nsdflow.ingestion.tasks.jobs import ExperimentJob, SubjectJob
from nsdflow.io.paths import public
from nsdflow.nsd.experiments import EXPERIMENTS
from nsdflow.nsd.images import resize_images
from nsdflow.store.build import create_experiment, create_stimuli
from nsdflow.store.chunks import read_region
from nsdflow.store.coordinates import read_coordinate
from nsdflow.store.schema import STIMULI_GROUP
from nsdflow.store.shard_format import open_sharded, write_region, write_shard
from nsdflow.store.verify import check_whole

__all__ = ["READ_EXPERIMENT_IMAGES", "create_experiment_group", "measure_ncsnr", "write_experiment_images"]

#: Images that are read at once; those of NSD-synthetic have a million pixels each.
READ_EXPERIMENT_IMAGES: Final = 8


@task("ingest.experiment", version=1)
def create_experiment_group(job: ExperimentJob) -> dict[str, Any]:
    """Create the group of a sister experiment in that of its subject, without values in the large arrays.

    Raises
    ------
    SourceError
        A file changed since the ingestion was planned.
    """
    subject, source = job.subject, job.subject.source
    record = EXPERIMENTS[subject.experiment]
    now = experiment_stamps(source, subject.subject, subject.experiment)
    if now != dict(job.stamps):
        changed = sorted(file for file in now.keys() | job.stamps.keys() if now.get(file) != job.stamps.get(file))
        raise SourceError(
            f"{source.join(changed[0])}: changed since the ingestion was planned; run the same command again"
        )
    trials = record.read_trials(source, subject.subject)
    flat = read_coordinate(f"{subject.built}/{subject.subject}", "flat_index")
    create_experiment(
        subject.built,
        subject.subject,
        subject.experiment,
        trials=trials.assign_coords(session=("trial", np.ones(subject.trials, np.int64))),
        voxels=xr.Dataset(coords={"flat_index": ("voxel", flat)}),
        dtype=subject.dtype,
        cut=subject.cut,
        attributes={
            "subject": subject.subject,
            "experiment": record.title,
            "space": subject.space,
            "betas_version": subject.betas,
            "sessions": list(subject.sessions),
            "source": public(source.url),
        },
    )
    if job.image_cut is not None:
        create_stimuli(
            subject.group,
            record.list_images(source, subject.subject),
            size=job.image_size,
            cut=job.image_cut,
            attributes={"source": public(source.url), "resize": "PIL bilinear, antialiased, on uint8"},
        )
    return {"trials": subject.trials, "voxels": len(flat)}


@task("ingest.experiment_images", version=1)
def write_experiment_images(job: ExperimentJob) -> dict[str, Any]:
    """Read, resize and write the images of a sister experiment, and compare some with a second read."""
    array = open_sharded(f"{job.subject.group}/{STIMULI_GROUP}/images")
    for shard in range(array.shards[0]):
        first = shard * array.shard[0]
        rows = np.arange(first, min(first + array.shard[0], array.shape[0]))
        write_shard(array, (shard, 0, 0, 0), _chunks(job, rows, array.chunk[0]))
    chunks = check_whole(array.url, array.shape)
    rows = np.sort(np.random.default_rng(array.shape[0]).permutation(array.shape[0])[:SAMPLED_IMAGES])
    if not np.array_equal(_read(job, rows), read_region(array, (rows, None, None, None))):
        raise StoreError(f"{array.url}: differs from a second read of the source; ingest again with --no-resume")
    return {"images": array.shape[0], "chunks": chunks}


def _chunks(job: ExperimentJob, rows: NDArray[np.intp], chunk: int) -> Iterator[NDArray[np.uint8]]:
    step = chunk * max(1, READ_EXPERIMENT_IMAGES // chunk)
    for first in range(0, len(rows), step):
        images = _read(job, rows[first : first + step])
        yield from (images[start : start + chunk] for start in range(0, len(images), chunk))


def _read(job: ExperimentJob, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
    subject = job.subject
    images = EXPERIMENTS[subject.experiment].read_images(subject.source, subject.subject, rows.tolist())
    return resize_images(images, job.image_size)


@task("ingest.experiment_ncsnr", version=1)
def measure_ncsnr(job: SubjectJob) -> dict[str, Any]:
    """Measure the ncsnr of each voxel from the repetitions of a sister experiment, which NSD does not publish."""
    array = open_sharded(f"{job.group}/betas")
    condition = read_coordinate(job.group, "condition")
    (rows,) = np.nonzero(condition >= 0)
    found = np.empty(array.shape[1], np.float32)
    for start in range(0, array.shape[1], array.chunk[1]):
        columns = np.arange(start, min(start + array.chunk[1], array.shape[1]))
        values = read_region(array, (rows, columns), dtype=np.float32)
        responses = xr.DataArray(values, dims=("trial", "voxel"), coords={"nsd_id": ("trial", condition[rows])})
        found[columns] = estimate_ncsnr(responses).values
    write_region(open_sharded(f"{job.group}/ncsnr"), (0,), found)
    return {"voxels": int(np.isfinite(found).sum())}
