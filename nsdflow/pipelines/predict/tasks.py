"""Predictions of a finished run for any images, out of core: each task writes one block of images into separate files.

The result is one array (image, voxel) per subject. It is created first, filled file by file by workers that share
nothing, and published when all files exist: by a rename, or in an object store by its metadata. A process never holds
more than its block.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from nsdflow.engine.compute import choose_device, torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.nsd.pictures import list_pictures, read_pictures
from nsdflow.pipelines.common.data import listed_images, load_images
from nsdflow.pipelines.common.earlier import input_subjects, voxels_of
from nsdflow.pipelines.predict.predictors import load_predictor, predictor_kind
from nsdflow.pipelines.predict.settings import PredictPipeline  # a field of jobs
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.results import ResultArray, create_results, has_results, publish_results, unpublished
from nsdflow.store import Store, open_store
from nsdflow.store.shard_format import open_sharded, write_region

__all__ = [
    "CreateJob",
    "PredictJob",
    "PublishPredictionsJob",
    "create_predictions",
    "plan_predict",
    "predict_block",
    "publish_predictions",
]

#: Voxels per inner chunk of the result.
CHUNK_VOXELS = 1024


def plan_predict(pipeline: PredictPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan tasks that create the arrays, fill them by blocks of images on GPU workers, and publish them."""
    opened = open_store(store)
    model = folder.sibling(pipeline.model)
    subjects = input_subjects(model, opened, pipeline.subjects)
    network = predictor_kind(model).memory if model.exists("run.yaml") else 0
    tables = {subject: _image_table(pipeline, opened, subject) for subject in subjects}
    counts = {subject: table.sizes["image"] for subject, table in tables.items()}
    pixels = 3 * opened.images().sizes["x"] ** 2
    create = Task(
        "create", create_predictions,
        CreateJob(pipeline, store, folder.path, model.path, subjects, _content(pipeline, tables)), "create",
        memory=Memory.with_torch(),
        files=2 + 80 * len(subjects),
    )  # fmt: skip
    blocks = []
    for subject, count in counts.items():
        voxels = opened.voxels(subject).sizes["voxel"]
        for start in range(0, count, pipeline.images_per_task):
            size = min(pipeline.images_per_task, count - start)
            shown = {subject: tables[subject].isel(image=slice(start, start + size))}
            blocks.append(
                Task(
                    f"predict-{subject}-{start:06d}",
                    predict_block,
                    PredictJob(
                        pipeline,
                        store,
                        folder.path,
                        model.path,
                        subject,
                        start,
                        _content(pipeline, shown, stat=True),
                    ),
                    "predict",
                    after=("create",),
                    pool="gpu",
                    memory=Memory.with_torch(network=network, images=size * pixels, predictions=8 * size * voxels),
                    reads=size * pixels,
                    writes=size * 4 * voxels,
                    files=1,
                )
            )
    job = PublishPredictionsJob(folder.path, subjects)
    publish = publication(publish_predictions, job, [create, *blocks], memory=Memory.with_torch())
    note = f"with the networks of {model.path}; bytes and memory for all voxels of the store"
    return Plan(f"{pipeline.name}: predict", folder.path, (create, *blocks, publish), notes=(note,))


@dataclass(frozen=True)
class CreateJob:
    """Creation of the arrays of all subjects."""

    pipeline: PredictPipeline
    store: str
    folder: str
    model: str
    """Folder of the run that predicts."""
    subjects: tuple[str, ...]
    content: str
    """Of the list of picture files: with another list, the arrays are made again."""


@dataclass(frozen=True)
class PredictJob:
    """Predictions of one block of images for one subject."""

    pipeline: PredictPipeline
    store: str
    folder: str
    model: str
    """Folder of the run that predicts."""
    subject: str
    start: int
    """First row of the block."""
    content: str
    """Of the picture files of the block: other ones are predicted again."""


@dataclass(frozen=True)
class PublishPredictionsJob:
    """Publication of the predictions of all subjects."""

    folder: str
    subjects: tuple[str, ...]


@task("predict.create", version=2)
def create_predictions(job: CreateJob) -> dict[str, Any]:
    """Create each subject's group: its coordinates, and the array of predictions without values."""
    config, opened = job.pipeline, open_store(job.store)
    tables = {}
    for subject in job.subjects:
        images = _image_table(config, opened, subject)
        tables[subject] = voxels_of(RunFolder(job.model), subject).merge(images, combine_attrs="override")
    arrays = {
        subject: ResultArray(
            "predictions",
            "voxel",
            shape=(images, voxels),
            chunk=(min(config.images_per_task, images), min(CHUNK_VOXELS, voxels)),
            dtype="float32",
            attributes={"long_name": "predicted response, z-scored within session", "units": "1"},
        )
        for subject, table in tables.items()
        for images, voxels in [(table.sizes["image"], table.sizes["voxel"])]
    }
    create_results(job.folder, tables, arrays)
    return {subject: dict(table.sizes) for subject, table in tables.items()}


@task("predict.block", version=3)
def predict_block(job: PredictJob) -> None:
    """Predict one block of images for one subject and write the file that holds its rows."""
    config, opened = job.pipeline, open_store(job.store)
    table = _image_table(config, opened, job.subject).isel(image=slice(job.start, job.start + config.images_per_task))
    if "file" in table:
        ids, pixels = (
            None,
            read_pictures(Path(config.images), table["file"].values.tolist(), opened.images().sizes["x"]),
        )
    else:
        ids = table["nsd_id"].values
        pixels = load_images(opened, ids)
    images = torch.from_numpy(pixels)
    predictor = load_predictor(RunFolder(job.model), job.subject)
    predictor.check_size(images)
    with torch_threads(config.threads, share=2):
        values = predictor.to(choose_device(config.device)).predict(images, batch_size=config.batch_size, nsd_id=ids)
    write_region(open_sharded(f"{unpublished(job.folder)}/{job.subject}/predictions"), (job.start, 0), values)


@task("predict.publish", version=1)
def publish_predictions(job: PublishPredictionsJob) -> dict[str, Any]:
    """Check that no file is missing, and give the results their final name."""
    if has_results(job.folder):  # an earlier attempt published, and its worker died before it reported
        return {"subjects": list(job.subjects)}
    publish_results(job.folder, [f"{subject}/predictions" for subject in job.subjects])
    return {"subjects": list(job.subjects)}


def _content(config: PredictPipeline, tables: Mapping[str, xr.Dataset], *, stat: bool = False) -> str:
    """Hash of the names of picture files and, with ``stat``, of sizes and times; empty for images of the store."""
    listed = [table["file"].values.tolist() for table in tables.values() if "file" in table]
    names = sorted({str(name) for files in listed for name in files})
    stats = [(Path(config.images) / name).stat() for name in names] if stat else []
    said = [names, [[one.st_size, one.st_mtime_ns] for one in stats]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16] if names else ""


def _image_table(config: PredictPipeline, store: Store, subject: str) -> xr.Dataset:
    """Coordinates of the images to predict, in the order of the result's rows: ``nsd_id``, or ``file``."""
    if config.images == "subject":
        return xr.Dataset(coords={"nsd_id": ("image", listed_images(store, subject).nsd_id)})
    if config.images == "all":
        return xr.Dataset(coords={"nsd_id": ("image", store.images()["nsd_id"].values.astype(np.int64))})
    return xr.Dataset(coords={"file": ("image", np.array(list_pictures(Path(config.images))))})
