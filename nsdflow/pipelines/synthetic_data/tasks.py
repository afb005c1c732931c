"""Synthetic data as tasks: a noise model of every subject, then responses drawn from it, as separate stores.

An effect that an analysis finds in synthetic responses and that is not in their signal is an artefact of the analysis.
Every pipeline therefore runs on these stores as on those of measured responses. The models come first, in one task per
subject. Then one task per subject and data set fills shards that no other task writes. Then the stores are verified and
published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nsdflow.analysis import accuracy, noise_model
from nsdflow.engine.compute import read_here
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.errors import MissingDataError, RunError, SelectionError
from nsdflow.io.folders import list_files
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import SCORED, listed_images
from nsdflow.pipelines.synthetic_data.stores import (
    PREDICTED_IMAGES,
    ResponsesJob,
    StoreJob,
    StoresJob,
    create_stores,
    presentation,
    publish_stores,
    write_responses,
)
from nsdflow.runs import open_run, write_results
from nsdflow.runs.parts import open_parts, write_part
from nsdflow.store import Store, open_store
from nsdflow.store.schema import STATISTICS, STIMULI_GROUP, count_coordinates
from nsdflow.store.shard_sizes import cut_subject
from nsdflow.store.voxels import positions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.pipelines.synthetic_data.settings import SyntheticDataPipeline
    from nsdflow.runs.folder import RunFolder

__all__ = ["NoiseModelJob", "fit_noise_model", "plan_synthetic_data", "publish_synthetic_data", "signal_statistics"]


def plan_synthetic_data(pipeline: SyntheticDataPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan a model per subject, stores without responses, a task per subject and data set to fill them, publication."""
    opened = open_store(store)
    predictions = folder.sibling(pipeline.predictions)
    shapes = _shapes(predictions, opened, pipeline.subjects)
    jobs = [_job(pipeline, opened, folder, predictions, name, shapes) for name in pipeline.datasets]
    every = StoresJob(folder.path, tuple(jobs), tuple(shapes))
    models = [_model_task(opened, subject, shapes[subject], predictions, folder) for subject in shapes]
    create = Task(
        "create",
        create_stores,
        every,
        "create",
        after=tuple(task.key for task in models),
        memory=Memory.with_torch(),
        reads=prod(opened.images().shape),
        files=sum(_fixed_files(job, shapes) for job in jobs),
    )
    fills = [
        Task(
            f"fill-{Path(job.url).stem}-{subject}",
            write_responses,
            ResponsesJob(job, folder.path, subject),
            "responses",
            after=(create.key,),
            memory=Memory.with_torch(
                session=2 * images * voxels, noise_model=8 * voxels**2, predictions=24 * PREDICTED_IMAGES * voxels
            ),
            reads=4 * images * voxels * job.repeats,
            writes=4 * images * voxels * job.repeats,
            files=job.repeats * _columns(job, subject, voxels) + len(STATISTICS),
        )
        for job in jobs
        for subject, (images, voxels) in shapes.items()
    ]
    published = Memory.with_torch(noise_model=max(8 * voxels**2 for _, voxels in shapes.values()))
    publish = publication(publish_synthetic_data, every, [create, *fills], memory=published)
    note = f"signal: {predictions.path}; the images are those of {store}, linked where both are on one file system"
    return Plan(f"{pipeline.name}: synthetic data", folder.path, (*models, create, *fills, publish), notes=(note,))


def _model_task(store: Store, subject: str, shape: tuple[int, int], predictions: RunFolder, folder: RunFolder) -> Task:
    images, voxels = shape
    trials = store.explain(subject, shared=True)
    return Task(
        f"model-{subject}",
        fit_noise_model,
        NoiseModelJob(store.url, folder.path, predictions.path, subject),
        "noise model",
        # responses and predictions by trial; correlations C, A and P; eigenvectors with their work space
        memory=Memory.with_torch(trials=24 * trials.shape[0] * voxels, covariances=32 * voxels**2),
        reads=4 * images * voxels + trials.bytes,
        writes=4 * voxels**2,
    )


@dataclass(frozen=True)
class NoiseModelJob:
    """Noise model of one subject."""

    store: str
    folder: str
    predictions: str
    """Folder of the run whose predictions are the signal."""
    subject: str


@task("synthetic_data.noise_model", version=3)
def fit_noise_model(job: NoiseModelJob) -> dict[str, Any]:
    """Fit the noise model of one subject on the validation trials, and measure the signal over all its images."""
    opened, subject = open_store(job.store), job.subject
    predicted = open_run(job.predictions)[subject].to_dataset()["predictions"]
    ids = predicted["nsd_id"].values
    responses = _measured(opened, subject, predicted)
    shown = np.flatnonzero(np.isin(ids, responses["nsd_id"].values))
    validation = _bare(predicted.isel(image=shown).load())
    model = noise_model(validation, responses)
    mean, std = signal_statistics(predicted, presentation(opened, subject, ids).rows)
    noise = np.sqrt((model["mixing"] ** 2).sum("component"))
    power = np.sqrt(model["gain"] ** 2 + noise**2)
    results = model.assign(
        signal_mean=("voxel", mean),
        signal_std=("voxel", std),
        noise_std=noise,
        measured_accuracy=accuracy(validation, responses),
        planted_accuracy=(model["gain"] / power).where(power > 0, 0),
    ).astype(np.float32)
    coords = {name: c for name, c in predicted.coords.items() if c.dims == ("voxel",)}
    results = results.assign_coords(coords).assign_attrs(opened.voxels(subject).attrs)
    write_part(job.folder, subject, {subject: results})
    return {
        "components": results.sizes["component"],
        "residual": float(results["residual"]),
        "target_norm": float(results["target_norm"]),
    }


@task("synthetic_data.publish", version=2)
def publish_synthetic_data(job: StoresJob) -> dict[str, Any]:
    """Verify and publish the stores, then the noise models as the run's results."""
    stores = publish_stores(job.datasets)
    trees = open_parts(job.folder, job.subjects)
    # variables are read and written one by one: the mixing of all subjects would take a gigabyte
    write_results(job.folder, xr.DataTree.from_dict({name: tree[name].to_dataset() for name, tree in trees.items()}))
    return {"stores": stores}


def signal_statistics(
    predictions: xr.DataArray, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation (voxel,), ddof 0, of some rows of ``predictions`` (image, voxel), block by block."""
    voxels = predictions.sizes["voxel"]
    total, squares = np.zeros(voxels), np.zeros(voxels)
    offset = predictions[int(rows[0])].values.astype(np.float64)  # keeps the squares small if the mean is large
    for start in range(0, len(rows), PREDICTED_IMAGES):
        block = predictions[rows[start : start + PREDICTED_IMAGES]].values - offset
        total += block.sum(0)
        squares += (block**2).sum(0)
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0)
    return (offset + mean).astype(np.float32), np.sqrt(variance).astype(np.float32)


def _measured(store: Store, subject: str, predicted: xr.DataArray) -> xr.DataArray:
    """Validation responses (trial, voxel) of the predicted voxels, in their order, z-scored by session."""
    columns = positions_of(predicted["flat_index"].values, store.voxels(subject)["flat_index"].values, subject)
    responses = read_here(store.responses(subject, voxels=np.sort(columns), shared=True))
    wanted = np.isin(responses["nsd_id"].values, predicted["nsd_id"].values)
    if not wanted.any():
        raise SelectionError(f"{subject} has no trial of a shared image that is predicted; predict images: subject")
    return _bare(responses.isel(trial=wanted, voxel=np.argsort(np.argsort(columns))))


def _bare(values: xr.DataArray) -> xr.DataArray:
    """Values with the coordinate ``nsd_id`` alone."""
    return values.drop_vars([name for name in values.coords if name != "nsd_id"])


def _shapes(source: RunFolder, store: Store, wanted: str | Sequence[str]) -> dict[str, tuple[int, int]]:
    """Number of images and voxels per subject, from the predictions, or from the store if these do not exist yet."""
    if not source.finished:
        subjects = select_subjects(store.subjects, wanted)
        seen = {name: len(listed_images(store, name).nsd_id) for name in subjects}
        return {name: (seen[name], store.voxels(name).sizes["voxel"]) for name in subjects}
    tree = open_run(source.path)
    there = [name for name, node in tree.children.items() if "predictions" in node.dataset]
    if not there:
        raise MissingDataError(f"{source.path}: no predictions in it; nsdflow run predict makes some")
    shapes = {}
    for name in select_subjects(there, wanted):
        predicted = tree[name].to_dataset()["predictions"]
        if "nsd_id" not in predicted.coords:
            raise RunError(f"{source.path} predicts files, not images that were shown; predict images: subject")
        rows = presentation(store, name, predicted["nsd_id"].values).rows
        if not len(rows):
            raise SelectionError(f"{source.path} predicts no image that {name} saw; predict images: subject")
        shapes[name] = (len(rows), predicted.sizes["voxel"])
    return shapes


def _job(
    pipeline: SyntheticDataPipeline,
    store: Store,
    folder: RunFolder,
    predictions: RunFolder,
    name: str,
    shapes: Mapping[str, tuple[int, int]],
) -> StoreJob:
    dataset = pipeline.datasets[name]
    cuts = {
        subject: cut_subject(
            sessions=dataset.repeats,
            trials=images,
            voxels=voxels,
            itemsize=4,
            arrays=count_coordinates("trial") + len(store.voxels(subject).variables),
            layout=pipeline.layout,
        )
        for subject, (images, voxels) in shapes.items()
    }
    made: dict[str, Any] = {
        "run": folder.path,
        "signal": predictions.path,
        "seed": pipeline.seed,
        **dataset.model_dump(),
    }
    kept: dict[str, Any] = {key: store.attrs[key] for key in ("space", "betas", "voxels") if key in store.attrs}
    return StoreJob(
        url=folder.url(f"{name}.zarr"),
        source=store.url,
        predictions=predictions.path,
        repeats=dataset.repeats,
        noise=dataset.noise,
        seed=pipeline.seed,
        cuts=cuts,
        attributes={"source": store.url, **kept, "synthetic": made, SCORED: True},
    )


def _columns(job: StoreJob, subject: str, voxels: int) -> int:
    """Number of shards per session."""
    return -(-voxels // job.cuts[subject].shard[1])


def _fixed_files(job: StoreJob, shapes: Mapping[str, tuple[int, int]]) -> int:
    """Files of the store besides betas and statistics."""
    filled = {name: job.repeats * _columns(job, name, voxels) for name, (_, voxels) in shapes.items()}
    groups = sum(cut.files - filled[name] - len(STATISTICS) for name, cut in job.cuts.items())
    return 2 + groups + len(list_files(f"{job.source}/{STIMULI_GROUP}"))
