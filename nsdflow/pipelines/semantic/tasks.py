"""Ridge of voxels on the categories that COCO marks in the images, in blocks of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nsdflow.engine.compute import torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.errors import SelectionError
from nsdflow.fit.ridge import fit
from nsdflow.labels import with_labels
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import check_voxels, query_of
from nsdflow.pipelines.features.settings import ANNOTATION_FEATURES
from nsdflow.pipelines.features.source import FeatureTable, open_features
from nsdflow.pipelines.ridge.data import read_block, read_split
from nsdflow.pipelines.semantic.settings import SemanticPipeline  # a field of jobs
from nsdflow.runs import write_results
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import join_blocks, write_part
from nsdflow.store import Store, open_store

__all__ = [
    "CategoryFitJob",
    "PublishSemanticJob",
    "SemanticPipeline",
    "fit_categories",
    "plan_semantic",
    "publish_semantic",
    "weigh_categories",
]


@dataclass(frozen=True)
class CategoryFitJob:
    """One block of voxels of one subject."""

    pipeline: SemanticPipeline
    store: str
    folder: str
    subject: str
    start: int


@dataclass(frozen=True)
class PublishSemanticJob:
    """The results of all blocks."""

    pipeline: SemanticPipeline
    folder: str
    parts: dict[str, tuple[str, ...]]
    """Blocks of each subject, in the order of its voxels."""


def plan_semantic(pipeline: SemanticPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan one fit per block of voxels, and publication."""
    opened = open_store(store)
    table = _table(pipeline, opened, folder)
    tasks: list[Task] = []
    parts: dict[str, tuple[str, ...]] = {}
    for subject in select_subjects(opened.subjects, pipeline.subjects):
        query = opened.explain(subject, **query_of(pipeline, opened, subject))
        check_voxels(opened, subject, query.shape[1], pipeline.selection())
        design = read_split(pipeline.as_ridge(), opened, subject)
        table.rows_of(np.unique(design.nsd_id))  # raises if an image has no annotations
        for start in range(0, query.shape[1], pipeline.voxels_per_task):
            size = min(pipeline.voxels_per_task, query.shape[1] - start)
            name = f"{subject}-{start:06d}"
            parts[subject] = (*parts.get(subject, ()), name)
            memory = Memory.with_torch(
                features=12 * len(design.images) * table.count,
                responses=3 * query.result_bytes * size // query.shape[1],
                losses=8 * pipeline.lambdas * size,
                weights=12 * table.count * size,
            )
            fitted = CategoryFitJob(pipeline, store, folder.path, subject, start)
            reads = query.bytes * size // query.shape[1]
            tasks.append(Task(f"fit-{name}", fit_categories, fitted, "fit", memory=memory, reads=reads))
    job = PublishSemanticJob(pipeline, folder.path, parts)
    tasks.append(publication(publish_semantic, job, tasks, memory=Memory.with_torch()))
    note = f"{table.count} features ({pipeline.space}) of the categories that the store's annotations name"
    return Plan(f"{pipeline.name}: fit and publish", folder.path, tuple(tasks), notes=(note,))


@task("semantic.fit", version=3)
def fit_categories(job: CategoryFitJob) -> dict[str, Any]:
    """Fit a block of voxels, and evaluate it on the validation images."""
    config, ridge, store = job.pipeline, job.pipeline.as_ridge(), open_store(job.store)
    table = _table(config, store, RunFolder(job.folder))
    design = read_split(ridge, store, job.subject)
    block = read_block(ridge, store, job.subject, design, slice(job.start, job.start + config.voxels_per_task))
    X, shown = (torch.from_numpy(table.rows_of(ids)[:, :]) for ids in (design.images, design.shown))
    varies = X.std(0) > 0
    if not varies.any():
        raise SelectionError(f"{job.subject}: all training images are alike in {config.space}; name another space")
    with torch_threads(config.threads, share=2):
        model = fit(
            X[:, varies], block.Y, ridge.problem(), images=design.observations.image,
            weights=design.observations.weight, folds=design.folds, within=block.within,
        )  # fmt: skip
        predictions = model.predict(shown[:, varies], X[:, varies])
        weights = torch.zeros(len(varies), block.Y.shape[1])
        weights[varies] = model.weights(X[:, varies])[0].float()
    variables: dict[str, Any] = block.evaluate(predictions, design, config)
    variables["lambda"] = ("voxel", model.lambda_.numpy().astype(np.float32))
    variables["holdout_loss"] = ("voxel", model.loss.min(0).values.numpy().astype(np.float32))
    results = xr.Dataset(variables).assign_coords(block.voxels.coords)
    found = weigh_categories(weights.numpy().T, X.numpy(), table.labels or ())
    # names stay among the attributes until publication, which has a form for texts
    results = results.merge(found.drop_vars("category")).assign_attrs(
        block.attrs | {"lambdas": list(ridge.problem().lambdas)}
    )
    write_part(job.folder, f"{job.subject}-{job.start:06d}", {job.subject: results})
    return {"median_accuracy": float(results["accuracy"].median())}


@task("semantic.publish", version=1)
def publish_semantic(job: PublishSemanticJob) -> dict[str, Any]:
    """Join the blocks of each subject, and publish."""
    groups = {}
    for subject, parts in job.parts.items():
        whole = join_blocks(job.folder, subject, parts)
        groups[subject] = whole.assign_coords(category=whole["preferred_category"].attrs["flag_meanings"])
    write_results(job.folder, xr.DataTree.from_dict(groups))
    return {"subjects": list(groups)}


def weigh_categories(weights: NDArray[Any], values: NDArray[Any], names: Sequence[str]) -> xr.Dataset:
    """Effect of each category on each voxel.

    Parameters
    ----------
    weights : ndarray, (voxel, category)
        Weights of raw features.
    values : ndarray, (image, category)
        Features of the training images.

    Returns
    -------
    Dataset
        ``category_weight`` (category, voxel) float32: change of the z-scored response per standard deviation of the
        category over the training images, the other categories held constant; zero for a category that does not
        vary. ``preferred_category`` (voxel) int16: the category with the largest weight, -1 where none is positive.
        ``images_showing`` (category): training images that show it.

    Examples
    --------
    >>> import numpy as np
    >>> found = weigh_categories(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0], [1.0, 0.2]]), ["cat", "dog"])
    >>> found["category_weight"].values.ravel().round(3).tolist(), int(found["preferred_category"][0])
    ([0.5, 0.3], 0)
    """
    effects = (weights * values.std(axis=0)).astype(np.float32)
    preferred = np.where(effects.max(axis=1) > 0, effects.argmax(axis=1), -1).astype(np.int16)
    flags = {"flag_values": list(range(len(names))), "flag_meanings": list(names)}
    found = xr.Dataset(
        {
            "category_weight": (("category", "voxel"), effects.T),
            "preferred_category": ("voxel", preferred, flags),
            "images_showing": ("category", (values > 0).sum(axis=0)),
        },
        coords={"category": np.asarray(names, str)},
    )
    return with_labels(found)


def _table(pipeline: SemanticPipeline, store: Store, folder: RunFolder) -> FeatureTable:
    return open_features(ANNOTATION_FEATURES, folder, (pipeline.space,), store=store)[pipeline.space]
