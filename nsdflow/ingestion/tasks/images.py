"""Tasks: the group of the images, their shards, and the check of the finished group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.engine.plan import task
from nsdflow.errors import SourceError, StoreError
from nsdflow.ingestion.image_choices import chosen_images
from nsdflow.ingestion.tasks.jobs import ImageJob, ImageShardJob
from nsdflow.io.folders import exists
from nsdflow.io.paths import public
from nsdflow.nsd.design import Design, read_coco_ids, read_design
from nsdflow.nsd.images import read_images, resize_images
from nsdflow.store.build import create_stimuli
from nsdflow.store.chunks import read_region
from nsdflow.store.coordinates import read_coordinate
from nsdflow.store.schema import STIMULI_GROUP
from nsdflow.store.shard_format import open_sharded, write_shard
from nsdflow.store.verify import check_whole

__all__ = ["READ_IMAGES", "SAMPLED_IMAGES", "create_images", "verify_images", "write_images"]

#: Images that are read from the brick at once.
READ_IMAGES: Final = 64
#: Meaning of the coordinate ``listed_by``.
LISTED_BY: Final = "number of the subject whose list has the image; 0 all subjects, -1 none"
#: Images that verification reads a second time.
SAMPLED_IMAGES: Final = 3


@task("ingest.images_table", version=1)
def create_images(job: ImageJob) -> dict[str, Any]:
    """Create the group of the images with their coordinates, and the array without values."""
    ids = chosen_images(job.settings.images, job.source, job.sessions, job.count)
    if len(ids) != job.count:
        raise SourceError(
            f"{public(job.source.url)}: {len(ids)} images where {job.count} were planned; the source changed, "
            "run the same command again"
        )
    design = read_design(job.source)
    table = {
        "nsd_id": ("image", ids),
        "shared": ("image", np.isin(ids, design.sharedix)),
        "listed_by": ("image", _listed_by(design, ids), {"long_name": LISTED_BY}),
    }
    coco_ids = read_coco_ids(job.source)
    if coco_ids is not None:
        table["coco_id"] = ("image", coco_ids[ids])
    attributes = {
        "source": public(job.source.url),
        "resize": "PIL bilinear, antialiased, on uint8",
        "list_length": design.subjectim.shape[1],
    }
    create_stimuli(
        job.built, xr.Dataset(coords=table), size=job.settings.image_size, cut=job.cut, attributes=attributes
    )
    return {"images": len(ids)}


def _listed_by(design: Design, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the subject in whose list each image is; 0 in all lists, -1 in none."""
    number = np.full(int(max(ids.max(initial=0), design.subjectim.max())) + 1, -1, np.int64)
    for row, images in enumerate(design.subjectim, start=1):
        number[images] = row
    number[design.sharedix] = 0
    return number[ids]


@task("ingest.images", version=1)
def write_images(job: ImageShardJob) -> dict[str, Any]:
    """Read and resize the images of one shard; those of a published store are copied from it."""
    images = job.images
    array = open_sharded(f"{images.group}/images")
    ids = read_coordinate(images.group, "nsd_id")[job.shard * array.shard[0] : (job.shard + 1) * array.shard[0]]
    write_shard(array, (job.shard, 0, 0, 0), _chunks(images, ids, array.chunk[0]))
    return {"images": len(ids)}


def _chunks(job: ImageJob, ids: NDArray[np.int64], chunk: int) -> Iterator[NDArray[np.uint8]]:
    """Chunks of resized images, read some chunks at a time."""
    before = f"{job.before}/{STIMULI_GROUP}"
    has_before = job.before is not None and exists(f"{before}/zarr.json")
    old_ids = read_coordinate(before, "nsd_id") if has_before else np.empty(0, np.int64)
    step = chunk * max(1, READ_IMAGES // chunk)
    for first in range(0, len(ids), step):
        wanted = ids[first : first + step]
        known = np.isin(wanted, old_ids)
        images = np.empty((len(wanted), 3, job.settings.image_size, job.settings.image_size), np.uint8)
        if known.any():
            rows = np.flatnonzero(np.isin(old_ids, wanted))  # both ascend, so the order is the same
            images[known] = read_region(open_sharded(f"{before}/images"), (rows, None, None, None))
        if not known.all():
            images[~known] = resize_images(read_images(job.source, wanted[~known]), job.settings.image_size)
        yield from (images[start : start + chunk] for start in range(0, len(images), chunk))


@task("ingest.verify_images", version=1)
def verify_images(job: ImageJob) -> dict[str, Any]:
    """Check that no image is missing, and compare some with a second read of the source."""
    chunks = check_whole(f"{job.group}/images", (job.count, 3, job.settings.image_size, job.settings.image_size))
    rows = np.sort(np.random.default_rng(job.count).permutation(job.count)[:SAMPLED_IMAGES])
    again = resize_images(read_images(job.source, read_coordinate(job.group, "nsd_id")[rows]), job.settings.image_size)
    if not np.array_equal(again, read_region(open_sharded(f"{job.group}/images"), (rows, None, None, None))):
        raise StoreError(
            f"{job.group}/images: differs from a second read of {public(job.source.url)}; ingest again with --no-resume"
        )
    return {"chunks": chunks, "images": len(rows)}
