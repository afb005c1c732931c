"""Tuning as tasks: contributions of the layers of a finished GNet to each voxel, and the voxel's pooling fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from nsdflow.analysis import pooling_field_fits, pooling_fields, roi_summary, tuning, variance_partition
from nsdflow.config.pipeline import PipelineBase, Subjects
from nsdflow.engine.compute import choose_device, torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.fit.gnet.evaluate import predict_partitions
from nsdflow.models.gnet import bipartite_slices, layer_slices
from nsdflow.pipelines.common.data import load_images
from nsdflow.pipelines.common.earlier import input_subjects, run_settings
from nsdflow.pipelines.gnet.saved import SubjectModel, load_subject_model
from nsdflow.pipelines.gnet.settings import GNetPipeline
from nsdflow.pipelines.gnet.training import load_subject
from nsdflow.runs import open_run, write_results
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import open_parts, write_part
from nsdflow.store import Store, open_store
from nsdflow.store.voxels import positions_of

__all__ = [
    "TuneJob",
    "TuningPipeline",
    "TuningPublication",
    "plan_tuning",
    "publish_tuning",
    "tune_subject",
    "validation_trials",
]


class TuningPipeline(PipelineBase):
    """Contribution of each layer of a finished GNet run to each voxel, and fits of the voxel's pooling fields."""

    kind: Literal["tuning"] = "tuning"
    model: str = "gnet8j"
    """The run to analyse: its name among the runs, or a path."""
    subjects: Subjects = "all"
    bootstrap: int = Field(64, ge=2)
    """Resamples of validation trials; every accuracy is their mean."""
    threshold: float = Field(0.055, ge=0, lt=1)
    """ROI summaries take voxels of more than this accuracy."""
    batch_size: int = Field(100, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)

    def earlier_runs(self) -> tuple[str, ...]:
        return (self.model,)


#: Number of voxels whose contributions by trial are in memory at once.
VOXELS_AT_ONCE = 512
#: Prefix of the results by halves: ``half_inclusion`` for ``inclusion`` by layer.
HALF = "half"


def plan_tuning(pipeline: TuningPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan one GPU task per subject, and one that joins them and averages over ROIs."""
    opened = open_store(store)
    model = folder.sibling(pipeline.model)
    subjects = input_subjects(model, opened, pipeline.subjects)
    queries = {subject: opened.explain(subject) for subject in subjects}
    tasks = [
        Task(
            f"tune-{subject}", tune_subject, TuneJob(pipeline, store, folder.path, model.path, subject), "tune",
            pool="gpu",
            memory=Memory.with_torch(responses=4 * query.result_bytes), reads=query.bytes,
        )
        for subject, query in queries.items()
    ]  # fmt: skip
    job = TuningPublication(folder.path, subjects, pipeline.threshold)
    publish = publication(publish_tuning, job, tasks, memory=Memory.with_torch())
    note = f"of {model.path}, {pipeline.bootstrap} resamples; bytes and memory for all voxels of the store"
    return Plan(f"{pipeline.name}: tuning", folder.path, (*tasks, publish), notes=(note,))


@dataclass(frozen=True)
class TuneJob:
    """Tuning of one subject."""

    pipeline: TuningPipeline
    store: str
    folder: str
    model: str
    """Folder of the run to analyse."""
    subject: str


@dataclass(frozen=True)
class TuningPublication:
    """Publication of the tuning of all subjects."""

    folder: str
    subjects: tuple[str, ...]
    threshold: float
    """ROI summaries take voxels of more than this accuracy."""


@task("tuning.subject", version=3)
def tune_subject(job: TuneJob) -> dict[str, Any]:
    """Tuning by layer and by half, the partition of the variance, and fits of the finer pooling fields."""
    config, run, subject = job.pipeline, RunFolder(job.model), job.subject
    settings, opened = run_settings(run, GNetPipeline), open_store(job.store)
    networks = load_subject_model(run, subject)
    responses = validation_trials(settings, opened, subject, networks.voxels["flat_index"].values)
    with torch_threads(config.threads, share=2):
        contributions = _contributions(config, networks, opened, responses["nsd_id"].values, settings.width)
    layers, halves = [], []
    for start in range(0, responses.sizes["voxel"], VOXELS_AT_ONCE):
        block = slice(start, start + VOXELS_AT_ONCE)
        parts, measured = contributions.isel(voxel=block), responses.isel(voxel=block)
        bootstrap: dict[str, Any] = {"resamples": config.bootstrap, "seed": config.seed}
        explained = variance_partition(parts, measured, dim="partition", **bootstrap)
        layers.append(tuning(parts, measured, **bootstrap).merge(explained, combine_attrs="override"))
        halves.append(tuning(_by_half(parts, settings.width), measured, **bootstrap))
    by_half = xr.concat(halves, "voxel").drop_vars(["accuracy", "accuracy_std"]).rename(partition=HALF)
    results = xr.concat(layers, "voxel", combine_attrs="override").merge(
        by_half.rename({name: f"{HALF}_{name}" for name in by_half.data_vars}), combine_attrs="override"
    )
    source = open_run(job.model)[subject].to_dataset()
    fits = pooling_field_fits(pooling_fields(source["pooling_logits_0"].load()))
    kept = source[[name for name in ("noise_ceiling",) if name in source]].load().drop_vars("layer", errors="ignore")
    whole = xr.merge(
        [_bare(results), _bare(fits), _bare(kept)], combine_attrs="override", compat="override", join="exact"
    )
    whole = whole.assign_coords(networks.voxels.coords).assign_attrs(networks.voxels.attrs | results.attrs)
    write_part(job.folder, subject, {subject: whole})
    return {"fitted": int(whole["fitted"].sum()), "voxels": whole.sizes["voxel"]}


@task("tuning.publish", version=1)
def publish_tuning(job: TuningPublication) -> dict[str, Any]:
    """Publish all subjects in one tree, with averages over ROIs in ``/roi_summary``."""
    trees = open_parts(job.folder, job.subjects)
    datasets = {subject: tree[subject].to_dataset().load() for subject, tree in trees.items()}
    summaries = []
    for dataset in datasets.values():
        averaged = dataset[[name for name, values in dataset.data_vars.items() if _averages(str(name), values)]]
        summaries.append(
            roi_summary(averaged, dataset["accuracy"], dataset["roi"], average="published", threshold=job.threshold)
        )
    summary = xr.concat(
        summaries, xr.Variable("subject", list(datasets)), join="outer", combine_attrs="drop_conflicts"
    ).assign_attrs(threshold=job.threshold)
    write_results(job.folder, xr.DataTree.from_dict({**datasets, "roi_summary": summary}))
    return {"subjects": list(datasets)}


def validation_trials(config: GNetPipeline, store: Store, subject: str, flat_index: NDArray[np.int64]) -> xr.DataArray:
    """Responses (trial, voxel) of the run's voxels to shared images, z-scored by the run's protocol."""
    positions = positions_of(flat_index, store.voxels(subject)["flat_index"].values, subject)
    trials, _ = load_subject(config, store, subject, config.train.holdout_fraction, {"voxels": positions})
    return xr.DataArray(
        trials.responses[trials.shared],
        dims=("trial", "voxel"),
        coords={"nsd_id": ("trial", trials.nsd_id[trials.shared])},
    )


def _contributions(
    config: TuningPipeline, networks: SubjectModel, store: Store, nsd_id: NDArray[np.int64], width: int
) -> xr.DataArray:
    """Contribution (image, voxel, partition) of each layer to the predictions for validation images."""
    ids = np.unique(nsd_id)
    images = torch.from_numpy(load_images(store, ids))
    networks.check_size(images)
    layers = layer_slices(width)
    values = np.empty((len(ids), networks.voxels.sizes["voxel"], len(layers)), np.float32)
    for trunk in networks.to(choose_device(config.device)).trunks:
        added = predict_partitions(
            trunk.encoder, trunk.readout, images, partitions=list(layers.values()), batch_size=config.batch_size
        )
        values[:, trunk.columns] = added.cpu().numpy()
    return xr.DataArray(
        values, dims=("image", "voxel", "partition"), coords={"nsd_id": ("image", ids), "partition": list(layers)}
    )


def _by_half(contributions: xr.DataArray, width: int) -> xr.DataArray:
    """Contributions of the two halves of the features, each the sum of its layers'."""
    layers = layer_slices(width)
    sums = [
        contributions.sel(partition=[name for name, part in layers.items() if half.start <= part.start < half.stop])
        .sum("partition")
        .expand_dims(partition=[label], axis=-1)
        for label, half in bipartite_slices(width).items()
    ]
    return xr.concat(sums, "partition")


def _averages(name: str, values: xr.DataArray) -> bool:
    """Whether an average over voxels is meaningful, unlike that of angles, positions or categories."""
    circular = ("polar_angle", "orientation", "parameters")
    return "voxel" in values.dims and values.dtype.kind == "f" and name not in circular


def _bare(dataset: xr.Dataset) -> xr.Dataset:
    """Dataset without the coordinates of voxels, which all parts share."""
    return dataset.drop_vars([name for name, coord in dataset.coords.items() if "voxel" in coord.dims])
