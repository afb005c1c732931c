"""COCO's annotations in the plan of an ingestion, and in a store that is finished."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nsdflow.engine.driver_lock import holding
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Task
from nsdflow.errors import NsdflowError, StoreError
from nsdflow.ingestion.tasks.annotations import annotation_sizes, read_crops, write_annotation_group
from nsdflow.ingestion.tasks.jobs import AnnotationJob
from nsdflow.io.folders import exists
from nsdflow.io.text import format_bytes
from nsdflow.nsd.source import Source, open_source
from nsdflow.store import Store, open_store
from nsdflow.store.annotations import enlist_annotations, read_annotations
from nsdflow.store.schema import ANNOTATIONS_GROUP
from nsdflow.store.shard_sizes import MASK_SHARD_BYTES

__all__ = ["AnnotationPlan", "add_annotations", "annotations_before", "plan_annotations"]

#: Files of the group besides the masks: two for each of its arrays.
GROUP_FILES: Final = 60


@dataclass(frozen=True)
class AnnotationPlan:
    """What describing the images reads."""

    source: Source
    """NSD, for the crop of each image."""
    folder: Source
    files: dict[str, int]
    """Bytes of each annotation file; the store keeps them as the origin of its annotations."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())

    @property
    def file_budget(self) -> int:
        """Files of the group at most: the codes of the masks are smaller than what they are made from."""
        return GROUP_FILES + self.bytes // MASK_SHARD_BYTES

    def describe(self) -> str:
        """One line for the plan of an ingestion."""
        return f"annotations: {len(self.files)} files of COCO ({format_bytes(self.bytes)})"

    def job(self, built: str, subjects: Iterable[str]) -> AnnotationJob:
        """What the task takes."""
        return AnnotationJob(self.source, built, tuple(subjects), self.folder, self.files)

    def task(self, built: str, subjects: Iterable[str]) -> Task:
        """The task of an ingestion, after those that write the trials of its subjects."""
        names = tuple(subjects)
        return Task(
            key="annotations",
            function=write_annotation_group,
            job=self.job(built, names),
            stage="annotations",
            after=tuple(f"coordinates-{name}" for name in names),
            memory=Memory.with_numpy(columns=self.bytes),
            reads=self.bytes,
            files=self.file_budget,
        )


def plan_annotations(source: Source, folder: str | os.PathLike[str] | Source) -> AnnotationPlan:
    """Find NSD's crops and COCO's files, without reading these.

    Parameters
    ----------
    source : Source
        NSD, for the crop of each image.
    folder : str, path or Source
        Folder or URL with ``instances_train2017.json``, ``captions_train2017.json``, ... and the same of ``val2017``.

    Raises
    ------
    MissingDataError
        NSD's stimulus table or COCO's files are missing.
    SourceError
        The stimulus table is damaged.
    """
    place = open_source(os.fspath(folder)) if isinstance(folder, str | os.PathLike) else folder
    return AnnotationPlan(source, place, annotation_sizes(place, read_crops(source)))


def annotations_before(store: str, source: Source) -> AnnotationPlan | None:
    """The annotations of a finished store, to be made once more for a store that grows; None where it has none.

    Raises
    ------
    StoreError
        COCO's files are not there, or not as they were.
    """
    if not exists(f"{store}/{ANNOTATIONS_GROUP}/zarr.json"):
        return None
    known = read_annotations(store).attrs
    folder = str(known.get("source"))
    try:
        plan = plan_annotations(source, folder)
    except NsdflowError as error:
        reason = str(error)
    else:
        if plan.files == known.get("files"):
            return plan
        reason = f"its files in {folder} have changed"
    raise StoreError(
        f"{store}: has annotations, which must describe the new images too ({reason}); give their folder with "
        f"--annotations, or remove the folder {ANNOTATIONS_GROUP} of the store"
    )


def add_annotations(store: str, source: Source, folder: str | os.PathLike[str] | Source) -> Store:
    """Describe all images of a finished store's trials by COCO's annotation files, and return the store.

    The group appears when it is complete. The same call again does nothing.

    Parameters
    ----------
    store : str
        Path or URL of a finished store.
    source : Source
        NSD, for the crop of each image.
    folder : str, path or Source
        As for :func:`plan_annotations`.

    Raises
    ------
    StoreError
        The store has annotations from other files, or reading them back gives other values.
    MissingDataError
        NSD's stimulus table or COCO's files are missing.
    SourceError
        A file is damaged, or describes other images.
    RunError
        Another command works on the store.
    """
    opened, plan = open_store(store), plan_annotations(source, folder)
    with holding(opened.url):
        if not exists(f"{opened.url}/{ANNOTATIONS_GROUP}/zarr.json"):
            write_annotation_group(plan.job(opened.url, opened.subjects))
        elif opened.annotations().attrs.get("files") != plan.files:
            raise StoreError(
                f"{opened.url}: has annotations from other files; remove its folder {ANNOTATIONS_GROUP} to add these"
            )
        enlist_annotations(opened.url)
    return open_store(store)
