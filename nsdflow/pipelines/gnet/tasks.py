"""GNet as tasks: train each trunk on a GPU of its own, then join the groups' voxels into labelled results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nsdflow.engine.compute import torch_threads, weights_cache
from nsdflow.engine.plan import BASE_MEMORY, Plan, Task, task
from nsdflow.fit.statistics import channel_mean
from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import Encoder, Prefilter, Readout, layer_slices, level_shapes
from nsdflow.models.networks.weights import load_alexnet_weights
from nsdflow.names import select_subjects
from nsdflow.pipelines.gnet.prefilter_cache import cache_note, half_bytes, worker_bytes
from nsdflow.pipelines.gnet.results import group_results, model_state
from nsdflow.pipelines.gnet.settings import GNetPipeline  # noqa: TC001  # a field of jobs
from nsdflow.pipelines.gnet.training import TrainingData, load_training_data, run_training
from nsdflow.runs.parts import publish_parts, write_part
from nsdflow.store import open_store

if TYPE_CHECKING:
    from torch import Tensor

    from nsdflow.runs.folder import RunFolder

__all__ = ["TrainJob", "build_networks", "plan_gnet", "train_group"]

#: The single group of a model that is trained on all its voxels jointly.
JOINT = "joint"


def plan_gnet(pipeline: GNetPipeline, *, store: str, folder: RunFolder) -> Plan:
    """One GPU task a group, then one that joins and publishes."""
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    groups = pipeline.roi_groups or (JOINT,)
    count, _, *pixels = opened.images().shape
    images, maps = int(np.prod(opened.images().shape)), half_bytes(count, *pixels)
    trainings = []
    for group in groups:
        queries = [opened.explain(subject, roi=_rois(pipeline, group)) for subject in subjects]
        responses = sum(query.result_bytes for query in queries)
        for rank in range(pipeline.processes):
            trainings.append(
                Task(
                    key=f"train-{group}" if pipeline.processes == 1 else f"train-{group}-{rank}",
                    function=train_group,
                    job=TrainJob(pipeline, store, folder.path, group, rank),
                    stage="train",
                    pool="gpu",
                    together=pipeline.processes,
                    memory=BASE_MEMORY + images + 3 * responses + worker_bytes(pipeline, maps),
                    reads=images + sum(query.bytes for query in queries),
                    files=2 if rank == 0 else 0,
                )
            )
    publish = Task(
        key="publish",
        function=publish_parts,
        arguments={"folder": folder.path, "store": store, "parts": list(groups)},
        stage="publish",
        after=tuple(task.key for task in trainings),
        memory=BASE_MEMORY,
    )
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


@task("gnet.train", version=1)
def train_group(job: TrainJob) -> dict[str, Any] | None:
    """Train one trunk with the readouts of its voxels, evaluate the best epoch, write the group's part of the run.

    The training writes a checkpoint per epoch. It leaves when its worker closes, and continues from the checkpoint
    when the task runs again. Of the processes that share a training, the first evaluates and writes.
    """
    config = job.pipeline
    data = load_training_data(config, open_store(job.store), _rois(config, job.group))
    with torch_threads(config.threads, share=len(config.roi_groups or (JOINT,)) * config.processes):
        encoder, readouts = build_networks(config, data)
        result = run_training(
            config, data, encoder, readouts,
            folder=job.folder, part=job.group, rank=job.rank, processes=config.processes,
            train_prefilter=config.train_prefilter,
        )  # fmt: skip
        if job.rank > 0:
            return None
        results = group_results(config, data, result, layer_slices(config.width))
    write_part(job.folder, job.group, results, model_state(result))
    return {"best_epoch": result.best_epoch, "best_score": result.best_score, "precision": result.precision}


def build_networks(config: GNetPipeline, data: TrainingData) -> tuple[Encoder, dict[str, Readout]]:
    """Initial networks, drawn from the pipeline's seed: the same on any number of workers."""
    generator = torch.Generator().manual_seed(config.seed)
    mean = channel_mean(data.images, data.image_rows(training_only=config.protocol == "strict"))
    encoder = Encoder(_prefilter(config, mean), config.width, dropout=config.train.dropout, generator=generator)
    levels = level_shapes(encoder, data.images)
    readouts = {
        subject: Readout(trials.responses.shape[1], levels, generator=generator)
        for subject, trials in data.trials.items()
    }
    return encoder, readouts


def _rois(config: GNetPipeline, group: str) -> tuple[str, ...] | None:
    return config.rois if group == JOINT else (group,)


def _prefilter(config: GNetPipeline, mean: Tensor) -> Prefilter:
    if config.prefilter == "gabor":
        weights = gabor_prefilter_weights(config.seed)
    else:
        weights = load_alexnet_weights(config.prefilter_weights, cache=weights_cache())
    return Prefilter(weights, mean.tolist())
