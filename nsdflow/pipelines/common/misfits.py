"""Whether the settings of a pipeline fit a store: its subjects, ROIs and voxels, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nsdflow.config.pipeline import ModelPipeline, PipelineBase
from nsdflow.errors import SelectionError, one_of
from nsdflow.pipelines.common.data import check_voxels, chosen_sessions
from nsdflow.store import Store, open_store
from nsdflow.store.query.regions import region_mask

__all__ = ["misfits"]


def misfits(pipeline: PipelineBase, store: str) -> list[tuple[str, str]]:
    """List the settings that do not fit a store, each once with the reason.

    Raises
    ------
    MissingDataError, StoreError
        There is no such store, or it is damaged.
    """
    if not isinstance(pipeline, ModelPipeline):
        return []
    return list(dict.fromkeys(_misfits(pipeline, open_store(store))))


def _misfits(pipeline: ModelPipeline, store: Store) -> Iterator[tuple[str, str]]:
    wanted = store.subjects if pipeline.subjects == "all" else pipeline.subjects
    for subject in wanted:
        if subject not in store.subjects:
            yield "subjects", str(one_of("subject", subject, store.subjects))
            continue
        try:
            chosen_sessions(pipeline, store, subject)
        except SelectionError as error:
            yield "sessions", str(error)
        voxels = store.voxels(subject)
        masks: dict[str, NDArray[np.bool_]] = {}
        unknown = False
        for setting, region in _regions(pipeline):
            try:
                mask = region_mask(voxels, region)
            except SelectionError as error:
                unknown = True
                yield setting, str(error)
            else:
                masks[setting] = masks[setting] | mask if setting in masks else mask
        if masks and not unknown:
            try:
                count = int(np.logical_and.reduce(list(masks.values())).sum())
                check_voxels(store, subject, count, pipeline.selection())
            except SelectionError as error:
                yield next(iter(masks)), str(error)
                return  # most often so in every subject


def _regions(pipeline: ModelPipeline) -> Iterator[tuple[str, str]]:
    yield from (("rois", name) for name in pipeline.rois or ())
    if pipeline.voxels:
        yield "voxels", pipeline.voxels
