"""GNet as tasks: train each trunk on a separate GPU, then join the voxels of all groups into labelled results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdflow.engine.compute import torch_threads, weights_cache
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.fit.streams import torch_stream
from nsdflow.models.gnet import Encoder, Prefilter, layer_slices, level_shapes
from nsdflow.models.prefilters import PREFILTERS
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import query_of
from nsdflow.pipelines.gnet.input_mean import JOINT, choose_input_mean
from nsdflow.pipelines.gnet.prefilter_cache import cache_note, half_bytes, worker_bytes
from nsdflow.pipelines.gnet.results import group_results, model_state, readout_bytes
from nsdflow.pipelines.gnet.settings import GNetPipeline  # a field of jobs
from nsdflow.pipelines.gnet.training import (
    TrainingData,
    initial_readouts,
    load_training_data,
    report_activity,
    run_training,
)
from nsdflow.runs.parts import PublishPartsJob, publish_parts, write_part
from nsdflow.store import open_store

if TYPE_CHECKING:
    from torch import Tensor

    from nsdflow.models.gnet import Readout
    from nsdflow.runs.folder import RunFolder

__all__ = ["TrainJob", "plan_gnet", "train_group"]


def plan_gnet(pipeline: GNetPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan one GPU task per group, and one that joins and publishes."""
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    groups = pipeline.roi_groups or (JOINT,)
    count, _, *pixels = opened.images().shape
    images, maps = int(np.prod(opened.images().shape)), half_bytes(count, *pixels)
    trainings, published = [], []
    for group in groups:
        queries = [
            opened.explain(subject, **query_of(pipeline, opened, subject, *_rois(group))) for subject in subjects
        ]
        responses = sum(query.result_bytes for query in queries)
        published += [readout_bytes(query.shape[1]) for query in queries]
        for rank in range(pipeline.processes):
            trainings.append(
                Task(
                    key=f"train-{group}" if pipeline.processes == 1 else f"train-{group}-{rank}",
                    function=train_group,
                    job=TrainJob(pipeline, store, folder.path, group, rank),
                    stage="train",
                    pool="gpu",
                    together=pipeline.processes,
                    memory=Memory.with_torch(
                        images=images, responses=3 * responses, prefilter_maps=worker_bytes(pipeline, maps)
                    ),
                    reads=images + sum(query.bytes for query in queries),
                    files=2 if rank == 0 else 0,
                )
            )
    job = PublishPartsJob(folder.path, store, tuple(groups))
    publish = publication(publish_parts, job, trainings, memory=Memory.with_torch(readouts=sum(published)))
    notes = (
        f"{pipeline.train.epochs} epochs on {len(subjects)} subjects, protocol {pipeline.protocol}",
        cache_note(pipeline, maps),
    )
    return Plan(f"{pipeline.name}: train and publish", folder.path, (*trainings, publish), notes=notes)


@dataclass(frozen=True)
class TrainJob:
    """Training of one trunk, or the share of one process in it."""

    pipeline: GNetPipeline
    store: str
    folder: str
    group: str
    """ROI group of the trunk, or :data:`JOINT`."""
    rank: int = 0
    """Number of this process among ``pipeline.processes``."""


@task("gnet.train", version=2)
def train_group(job: TrainJob) -> dict[str, Any] | None:
    """Train one trunk with the readouts of its voxels, evaluate the best epoch, and write the group's results.

    The training writes a checkpoint per epoch. It leaves when its worker closes, and continues from the checkpoint
    when the task runs again. If several processes share a training, the first one evaluates and writes.
    """
    config, opened = job.pipeline, open_store(job.store)
    report_activity(config, job.group, "reading data")
    data = load_training_data(config, opened, *_rois(job.group))
    with torch_threads(config.threads, share=len(config.roi_groups or (JOINT,)) * config.processes):
        mean = choose_input_mean(config, opened, data, job.group)
        encoder, readouts = _networks(config, data, job.group, mean.value)
        result = run_training(
            config, data, encoder, readouts,
            folder=job.folder, part=job.group, rank=job.rank, processes=config.processes,
            train_prefilter=config.train_prefilter,
        )  # fmt: skip
        if job.rank > 0:
            return None
        results = group_results(config, data, result, layer_slices(config.width), mean.attributes())
    write_part(job.folder, job.group, results, model_state(result))
    return {"best_epoch": result.best_epoch, "best_score": result.best_score, "precision": result.precision}


def _networks(config: GNetPipeline, data: TrainingData, group: str, mean: Tensor) -> tuple[Encoder, dict[str, Readout]]:
    """Initial networks of one trunk, the same on any number of workers."""
    drawn = torch_stream(config.seed, config.kind, group, "trunk")
    encoder = Encoder(_prefilter(config, mean), config.width, dropout=config.train.dropout, generator=drawn)
    levels = level_shapes(encoder, data.images)
    return encoder, initial_readouts(config, data, group, levels)


def _rois(group: str) -> tuple[str, ...]:
    """ROIs of a trunk's voxels; none for all voxels of the pipeline."""
    return () if group == JOINT else (group,)


def _prefilter(config: GNetPipeline, mean: Tensor) -> Prefilter:
    weights = PREFILTERS[config.prefilter].load(config.seed, config.prefilter_weights, weights_cache())
    return Prefilter(weights, mean.tolist())
