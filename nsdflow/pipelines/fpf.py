"""Flexible pooling fields on a frozen AlexNet (AlexNet-fpf): the readout and training of GNet on other features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from nsdflow.engine.compute import choose_device, torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.models.gnet import FrozenEncoder, level_shapes
from nsdflow.models.networks import record_of, sketch_network
from nsdflow.models.networks.levels import channel_moments, group_layers, select_channels
from nsdflow.models.networks.travel import pack_network
from nsdflow.models.saved.parts import pack_about
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import query_of
from nsdflow.pipelines.common.networks import BATCH_IMAGES, NetworkPipeline, keep_network, network_of
from nsdflow.pipelines.gnet.input_mean import JOINT
from nsdflow.pipelines.gnet.results import group_results, model_state
from nsdflow.pipelines.gnet.settings import TrainedPipeline
from nsdflow.pipelines.gnet.training import (
    TrainingData,
    initial_readouts,
    load_training_data,
    report_activity,
    run_training,
)
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import PublishPartsJob, publish_parts, write_part
from nsdflow.store import open_store

__all__ = ["FpfPipeline", "build_frozen_encoder", "plan_fpf", "train_fpf"]


class FpfPipeline(NetworkPipeline, TrainedPipeline):
    """The flexible pooling readout of GNet on the feature maps of a frozen AlexNet."""

    kind: Literal["fpf"] = "fpf"
    layers: tuple[str, ...] = Field(("conv1", "conv2", "conv3", "conv4", "conv5"), min_length=1)
    """Layers of the network, from the first to the last."""
    max_features_per_layer: int = Field(512, ge=1)
    """Largest number of channels per layer; those that vary most over images are kept."""


def plan_fpf(pipeline: FpfPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan one GPU task that trains the readouts of all subjects, and one that publishes."""
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    sketch_network(pipeline.features, layers=pipeline.layers)  # raises if the network lacks a layer
    queries = [opened.explain(subject, **query_of(pipeline, opened, subject)) for subject in subjects]
    images = int(np.prod(opened.images().shape))
    train = Task(
        key="train",
        function=train_fpf,
        job=FpfJob(pipeline, store, folder.path),
        stage="train",
        pool="gpu",
        memory=Memory.with_torch(
            network=record_of(pipeline.features).memory,
            images=images,
            responses=3 * sum(query.result_bytes for query in queries),
        ),
        reads=images + sum(query.bytes for query in queries),
        files=2,
    )
    job = PublishPartsJob(folder.path, store, (JOINT,))
    publish = publication(publish_parts, job, [train], memory=Memory.with_torch())
    layers = f"{', '.join(pipeline.layers)} of {pipeline.features}"
    note = f"{pipeline.train.epochs} epochs on {layers}, protocol {pipeline.protocol}"
    return Plan(f"{pipeline.name}: train and publish", folder.path, (train, publish), notes=(note,))


@dataclass(frozen=True)
class FpfJob:
    """Training of the readouts of all subjects."""

    pipeline: FpfPipeline
    store: str
    folder: str


@task("fpf.train", version=3)
def train_fpf(job: FpfJob) -> dict[str, Any]:
    """Train every voxel's pooling fields and weights on the frozen features.

    The run keeps the channels that it read, ``channels.0`` ..., one tensor per level, and the network.
    """
    config = job.pipeline
    keep_network(RunFolder(job.folder), network_of(config, config.layers))
    report_activity(config, JOINT, "reading data")
    data = load_training_data(config, open_store(job.store))
    with torch_threads(config.threads):
        encoder, layers = build_frozen_encoder(config, data)
        readouts = initial_readouts(config, data, JOINT, level_shapes(encoder, data.images))
        result = run_training(
            config, data, encoder, readouts, folder=job.folder, part=JOINT, train_encoder=False, frozen_encoder="eval"
        )
        results = group_results(config, data, result, layers)
    state = {
        name: tensor
        for name, tensor in model_state(result).items()
        if name.startswith(("readouts.", "final.readouts."))
    }
    state |= {f"channels.{level}": channels for level, channels in enumerate(encoder.channels or ())}
    network = network_of(config, config.layers)
    about, tensors = pack_network(network)
    state |= pack_about({"kind": "fpf", "network": about}) | {f"network.{name}": one for name, one in tensors.items()}
    write_part(job.folder, JOINT, results, state)
    return {"best_epoch": result.best_epoch, "best_score": result.best_score, "precision": result.precision}


def build_frozen_encoder(config: FpfPipeline, data: TrainingData) -> tuple[FrozenEncoder, dict[str, slice]]:
    """Build an encoder with the most variable channels of each layer, and the slice of each layer's features."""
    network = network_of(config, config.layers)
    rows = torch.cat(data.image_rows(training_only=PROTOCOLS[config.protocol].training_only)).unique()
    device, limit = choose_device(config.device), config.max_features_per_layer
    network.to(device)
    with torch.inference_mode():
        shapes = network(data.images[:1].to(device))
        # if no layer drops channels, one image is enough to count them
        measured = rows if any(maps.shape[1] > limit for maps in shapes) else rows[:1]
        moments = [
            channel_moments(network(data.images[part].to(device)), limit) for part in measured.split(BATCH_IMAGES)
        ]
    kept, origin = select_channels(reduce(add, moments), group_layers(shapes), limit)
    slices = {}
    for layer in dict.fromkeys(origin.tolist()):
        (positions,) = np.nonzero(origin == layer)
        slices[network.layers[layer]] = slice(int(positions[0]), int(positions[-1]) + 1)
    return FrozenEncoder(network.cpu(), kept), slices
