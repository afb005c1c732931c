"""Task: the group of COCO's annotations, moved into NSD's crops."""

from __future__ import annotations

from typing import Any

import numpy as np

from nsdflow.engine.plan import task
from nsdflow.errors import MissingDataError, SourceError, StoreError
from nsdflow.ingestion.tasks.jobs import AnnotationJob
from nsdflow.io.paths import public
from nsdflow.nsd.annotations import CroppedImage, annotation_files, annotation_table, cropped_images
from nsdflow.nsd.design import read_stimulus_info
from nsdflow.nsd.source import Source
from nsdflow.store.annotations import MASKS, read_annotations, write_annotations
from nsdflow.store.coordinates import read_coordinate
from nsdflow.store.schema import ANNOTATIONS_GROUP
from nsdflow.store.verify import check_whole

__all__ = ["annotation_sizes", "read_crops", "write_annotation_group"]


@task("ingest.annotations", version=1)
def write_annotation_group(job: AnnotationJob) -> dict[str, Any]:
    """Describe all images of a store's trials by COCO's annotation files, and read back what was written.

    Raises
    ------
    SourceError
        A file changed since the ingestion was planned, is damaged, or describes other images.
    StoreError
        The annotations that are read back differ from those that were written.
    """
    images = read_crops(job.source)
    if (now := annotation_sizes(job.folder, images)) != dict(job.files):
        changed = sorted(name for name in {**now, **job.files} if now.get(name) != job.files.get(name))
        raise SourceError(
            f"{job.folder.join(changed[0])}: changed since the ingestion was planned; run the same command again"
        )
    seen = np.unique(np.concatenate([read_coordinate(f"{job.built}/{subject}", "nsd_id") for subject in job.subjects]))
    table = annotation_table(job.folder, [images[image] for image in seen.tolist()])
    attributes = {**table.attrs, "source": public(job.folder.url), "files": dict(job.files)}
    write_annotations(job.built, table.drop_attrs(deep=False), attributes)
    found = read_annotations(job.built)
    wrong = [name for name in ("instances", "area", "mask_end") if not np.array_equal(found[name], table[name])]
    if wrong:
        raise StoreError(
            f"{job.built}/{ANNOTATIONS_GROUP}: {', '.join(wrong)} differ from what was written; "
            "remove the folder, and run the same command again"
        )
    if table[MASKS].size:
        check_whole(f"{job.built}/{ANNOTATIONS_GROUP}/{MASKS}", (table[MASKS].size,))
    return {"images": table.sizes["image"], "categories": table.sizes["category"]}


def read_crops(source: Source) -> tuple[CroppedImage, ...]:
    """The crop of every image of NSD, by ``nsd_id``.

    Raises
    ------
    MissingDataError
        NSD's stimulus table is missing.
    SourceError
        It is damaged.
    """
    info = read_stimulus_info(source)
    if info is None:
        raise MissingDataError(
            f"{public(source.url)}: no nsd_stim_info_merged.csv, which has the crop of every image; fetch it"
        )
    return tuple(cropped_images(info))


def annotation_sizes(folder: Source, images: tuple[CroppedImage, ...]) -> dict[str, int]:
    """Names and bytes of the annotation files of some images.

    Raises
    ------
    MissingDataError
        The folder has none of a split.
    """
    found, sizes = annotation_files(folder, [image.split for image in images]), folder.sizes()
    return {name: sizes[name] for name in sorted(name for names in found.values() for name in names)}
