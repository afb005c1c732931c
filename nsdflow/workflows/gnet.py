"""GNet as tasks: train each trunk on a GPU of its own, then join the groups' voxels into labelled results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nsdflow.cluster.events import emit
from nsdflow.cluster.stop import hand_over, should_stop
from nsdflow.config.pipeline import GNetPipeline
from nsdflow.errors import SelectionError, one_of
from nsdflow.fit.gnet import TrainSettings, Trials, train
from nsdflow.fit.split import image_holdout, last_trials_holdout
from nsdflow.fit.statistics import channel_mean
from nsdflow.models.gabor_prefilter import gabor_prefilter_weights
from nsdflow.models.gnet import Encoder, Prefilter, Readout, level_shapes
from nsdflow.models.weights import load_alexnet_weights
from nsdflow.store import open_store
from nsdflow.workflows.compute import choose_device, torch_threads, weights_cache
from nsdflow.workflows.data import SubjectTrials, load_images, load_trials, zscore_on
from nsdflow.workflows.engine import Plan, Task
from nsdflow.workflows.gnet_results import group_results, model_state
from nsdflow.workflows.parts import publish_parts, write_part

if TYPE_CHECKING:
    from torch import Tensor

    from nsdflow.workflows.runfolder import RunFolder

__all__ = ["plan_gnet", "train_group"]

#: The single group of a model that is trained on all its voxels jointly.
JOINT = "joint"
#: Bytes of interpreter, torch and buffers of a training task before any data.
BASE_MEMORY = 700 << 20


def plan_gnet(pipeline: GNetPipeline, *, store: str, folder: RunFolder) -> Plan:
    """One GPU task a group, then one that joins and publishes."""
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    groups = pipeline.roi_groups or (JOINT,)
    settings = pipeline.model_dump(mode="json")
    images = int(np.prod(opened.images().shape))
    trainings = []
    for group in groups:
        queries = [opened.explain(subject, roi=_rois(pipeline, group)) for subject in subjects]
        responses = sum(query.result_bytes for query in queries)
        trainings.append(
            Task(
                key=f"train-{group}",
                function=train_group,
                arguments={"pipeline": settings, "store": store, "folder": folder.path, "group": group},
                stage="train",
                pool="gpu",
                memory=BASE_MEMORY + images + 3 * responses,
                reads=images + sum(query.bytes for query in queries),
                files=2,
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
    note = f"{pipeline.train.epochs} epochs on {len(subjects)} subjects, protocol {pipeline.protocol}"
    return Plan(f"{pipeline.name}: train and publish", folder.path, (*trainings, publish), notes=(note,))


def train_group(*, pipeline: Mapping[str, Any], store: str, folder: str, group: str) -> dict[str, Any]:
    """Train one trunk with the readouts of its voxels, evaluate the best epoch, write the group's part of the run.

    Checkpoints every epoch; leaves when its worker does, and continues from there when it is run again.
    """
    config = GNetPipeline.model_validate(dict(pipeline))
    opened = open_store(store)
    subjects = [
        split_subject(
            load_trials(
                opened,
                subject,
                _rois(config, group),
                zscore=config.protocol == "published",
                shuffle=config.seed if config.shuffle_images else None,
            ),
            config,
        )
        for subject in select_subjects(opened.subjects, config.subjects)
    ]
    nsd_ids = np.unique(np.concatenate([subject.nsd_id for subject, _ in subjects]))
    images = torch.from_numpy(load_images(opened, nsd_ids))
    trials = {subject.subject: _training_trials(subject, holdout, nsd_ids) for subject, holdout in subjects}
    with torch_threads(config.threads, share=len(config.roi_groups or (JOINT,))):
        encoder, readouts = build_networks(config, images, trials)
        result = train(
            images,
            trials,
            encoder,
            readouts,
            settings=_train_settings(config),
            device=choose_device(config.device),
            checkpoint=f"{folder}/checkpoint/{group}.pt",
            should_stop=should_stop,
            on_epoch=lambda record: _report_epoch(config.name, group, record),
        )
        if result.status == "stopped":
            hand_over()
        results = group_results(config, [subject for subject, _ in subjects], nsd_ids, images, result)
    write_part(folder, group, results, model_state(result))
    return {"best_epoch": result.best_epoch, "best_score": result.best_score, "precision": result.precision}


def split_subject(subject: SubjectTrials, config: GNetPipeline) -> tuple[SubjectTrials, np.ndarray[Any, Any]]:
    """Holdout (training trial,) by protocol; in the strict one responses are scored on training trials alone."""
    if not subject.shared.any():
        raise SelectionError(f"{subject.subject} has no trial of a shared image to validate on; ingest more sessions")
    training = ~subject.shared
    if config.protocol == "published":
        return subject, last_trials_holdout(int(training.sum()), config.train.holdout_fraction)
    holdout = image_holdout(subject.nsd_id[training], config.train.holdout_fraction)
    fitted_on = training.copy()
    fitted_on[training] = ~holdout
    return replace(subject, responses=zscore_on(subject.responses, subject.session, fitted_on)), holdout


def build_networks(
    config: GNetPipeline, images: Tensor, trials: Mapping[str, Trials]
) -> tuple[Encoder, dict[str, Readout]]:
    """Initial networks, drawn from the pipeline's seed: the same for every group and any number of workers."""
    generator = torch.Generator().manual_seed(config.seed)
    rows = [
        trial.images if config.protocol == "published" else trial.images[~trial.holdout] for trial in trials.values()
    ]
    mean = channel_mean(images, rows)
    encoder = Encoder(_prefilter(config, mean), config.width, dropout=config.train.dropout, generator=generator)
    levels = level_shapes(encoder, images)
    readouts = {
        subject: Readout(one.responses.shape[1], levels, generator=generator) for subject, one in trials.items()
    }
    return encoder, readouts


def select_subjects(there: Sequence[str], wanted: str | Sequence[Any]) -> tuple[str, ...]:
    """The subjects of a store that a pipeline asks for."""
    if wanted == "all":
        return tuple(there)
    for subject in wanted:
        if subject not in there:
            raise one_of("subject", subject, there)
    return tuple(wanted)


def _training_trials(subject: SubjectTrials, holdout: np.ndarray[Any, Any], nsd_ids: np.ndarray[Any, Any]) -> Trials:
    training = ~subject.shared
    return Trials(
        images=torch.from_numpy(np.searchsorted(nsd_ids, subject.nsd_id[training])),
        responses=torch.from_numpy(subject.responses[training]),
        holdout=torch.from_numpy(holdout),
    )


def _rois(config: GNetPipeline, group: str) -> tuple[str, ...] | None:
    return config.rois if group == JOINT else (group,)


def _prefilter(config: GNetPipeline, mean: Tensor) -> Prefilter:
    if config.prefilter == "gabor":
        weights = gabor_prefilter_weights(config.seed)
    else:
        weights = load_alexnet_weights(config.prefilter_weights, cache=weights_cache())
    return Prefilter(weights, mean)


def _train_settings(config: GNetPipeline) -> TrainSettings:
    return TrainSettings(
        protocol=config.protocol,
        epochs=config.train.epochs,
        batch_size=config.train.batch_size,
        learning_rate=config.train.learning_rate,
        l1=config.train.weight_penalty,
        seed=config.seed,
        train_prefilter=config.train_prefilter,
        precision=config.precision or "auto",
    )


def _report_epoch(run: str, group: str, record: Mapping[str, Any]) -> None:
    emit(
        "epoch",
        run=run,
        group=group,
        epoch=record["epoch"] + 1,
        epochs=record["epochs"],
        seconds=record["seconds"],
        loss=record["train_loss"],
        holdout_loss=record["holdout_loss"],
        accuracy=record["holdout_cc_median"],
        subjects={name: values["holdout_cc_median"] for name, values in record["subjects"].items()},
    )
