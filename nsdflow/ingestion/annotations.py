"""Add COCO's annotations to a finished store: the group ``annotations``, moved into NSD's crops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsdflow.errors import MissingDataError, StoreError
from nsdflow.io.folders import exists
from nsdflow.io.paths import is_local
from nsdflow.nsd.annotations import annotation_table, cropped_images
from nsdflow.nsd.design import read_stimulus_info
from nsdflow.nsd.source import open_source
from nsdflow.store import open_store
from nsdflow.store.annotations import write_annotations
from nsdflow.store.schema import ANNOTATIONS

if TYPE_CHECKING:
    from nsdflow.nsd.source import Source
    from nsdflow.store import Store

__all__ = ["add_annotations"]


def add_annotations(store: str, source: Source, folder: Path) -> Store:
    """Describe all images of a store's trials by COCO's annotation files.

    Parameters
    ----------
    store : str
        Path of a finished store.
    source : Source
        NSD, for the crop of each image.
    folder : Path
        Holds ``instances_train2017.json``, ``captions_train2017.json``, ... and the same of ``val2017``.

    Returns
    -------
    Store
        The store, whose ``annotations()`` gives the table.

    Raises
    ------
    StoreError
        The store is not on this machine, or has annotations.
    MissingDataError
        NSD's stimulus table or COCO's files are missing.
    SourceError
        A file is damaged, or of other images.
    """
    opened = open_store(store)
    if not is_local(opened.url):
        raise StoreError(f"{opened.url}: annotations are added to stores on this machine; copy the store first")
    if exists(f"{opened.url}/{ANNOTATIONS}"):
        raise StoreError(f"{opened.url}: has annotations; remove its folder {ANNOTATIONS} to add others")
    info = read_stimulus_info(source)
    if info is None:
        raise MissingDataError(
            f"{source.url}: no nsd_stim_info_merged.csv, which has the crop of every image; fetch it"
        )
    seen = np.unique(np.concatenate([opened.trials(subject)["nsd_id"].values for subject in opened.subjects]))
    table = annotation_table(open_source(folder), cropped_images(info.iloc[seen]))
    write_annotations(opened.url, table.drop_attrs(deep=False), dict(table.attrs))
    return open_store(store)
