"""Add COCO's annotations to a finished store: the group ``annotations``, moved into NSD's crops."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.engine.driver_lock import holding
from nsdflow.errors import MissingDataError, StoreError
from nsdflow.io.folders import exists
from nsdflow.io.paths import public
from nsdflow.io.text import format_bytes
from nsdflow.nsd.annotations import CroppedImage, annotation_files, annotation_table, cropped_images
from nsdflow.nsd.design import read_stimulus_info
from nsdflow.nsd.source import open_source
from nsdflow.store import open_store
from nsdflow.store.annotations import MASKS, write_annotations
from nsdflow.store.schema import ANNOTATIONS
from nsdflow.store.verify import check_whole

if TYPE_CHECKING:
    from nsdflow.nsd.source import Source
    from nsdflow.store import Store

__all__ = ["AnnotationPlan", "add_annotations", "plan_annotations"]


@dataclass(frozen=True)
class AnnotationPlan:
    """What adding annotations reads."""

    folder: Source
    files: dict[str, int]
    """Bytes of each annotation file."""
    images: tuple[CroppedImage, ...]
    """All images of NSD, by ``nsd_id``."""

    def describe(self) -> str:
        """One line for the plan of an ingestion."""
        size = format_bytes(sum(self.files.values()))
        return f"annotations: {len(self.files)} files of COCO ({size}), read when the store is complete"

    @property
    def stamp(self) -> dict[str, int]:
        """What the store keeps of their origin: names and bytes of the files."""
        return dict(sorted(self.files.items()))


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
    info = read_stimulus_info(source)
    if info is None:
        raise MissingDataError(
            f"{public(source.url)}: no nsd_stim_info_merged.csv, which has the crop of every image; fetch it"
        )
    images = cropped_images(info)
    place = open_source(os.fspath(folder)) if isinstance(folder, str | os.PathLike) else folder
    found, sizes = annotation_files(place, [image.split for image in images]), place.sizes()
    return AnnotationPlan(place, {name: sizes[name] for names in found.values() for name in names}, tuple(images))


def add_annotations(store: str, source: Source, folder: str | os.PathLike[str] | Source) -> Store:
    """Describe all images of a store's trials by COCO's annotation files.

    The group appears when it is complete. The same call again does nothing.

    Parameters
    ----------
    store : str
        Path or URL of a finished store.
    source : Source
        NSD, for the crop of each image.
    folder : str, path or Source
        As for :func:`plan_annotations`.

    Returns
    -------
    Store
        The store, whose ``annotations()`` gives the table.

    Raises
    ------
    StoreError
        The store has annotations from other files, or what was written is not what is read back.
    MissingDataError
        NSD's stimulus table or COCO's files are missing.
    SourceError
        A file is damaged, or of other images.
    RunError
        Another command works on the store.
    """
    opened, plan = open_store(store), plan_annotations(source, folder)
    with holding(opened.url):
        if exists(f"{opened.url}/{ANNOTATIONS}/zarr.json"):
            if opened.annotations().attrs.get("files") != plan.stamp:
                raise StoreError(
                    f"{opened.url}: has annotations from other files; remove its folder {ANNOTATIONS} to add these"
                )
            return opened
        seen = np.unique(np.concatenate([opened.trials(subject)["nsd_id"].values for subject in opened.subjects]))
        table = annotation_table(plan.folder, [plan.images[image] for image in seen.tolist()])
        attributes: dict[str, Any] = {**table.attrs, "source": public(plan.folder.url), "files": plan.stamp}
        write_annotations(opened.url, table.drop_attrs(deep=False), attributes)
        written = open_store(store)
        _verify(written, table[MASKS].size, {name: table[name].values for name in ("instances", "area", "mask_end")})
    return written


def _verify(store: Store, code_bytes: int, expected: dict[str, Any]) -> None:
    """Read back what was written."""
    found = store.annotations()
    wrong = [name for name, values in expected.items() if not np.array_equal(found[name].values, values)]
    if wrong:
        raise StoreError(f"{store.url}/{ANNOTATIONS}: {', '.join(wrong)} differ from what was written; add them again")
    if code_bytes:
        check_whole(f"{store.url}/{ANNOTATIONS}/{MASKS}", (code_bytes,))
