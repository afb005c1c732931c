"""Functions that all trainings of readouts share: data by protocol, the optimisation, and reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from nsdflow.cluster.deadline import hand_over, should_stop
from nsdflow.engine.compute import choose_device, gpu_memory
from nsdflow.engine.training_lease import Lease
from nsdflow.errors import SelectionError
from nsdflow.fit.gnet import TrainResult, Trials, train
from nsdflow.fit.gnet.parallel import Ranks
from nsdflow.fit.gnet.settings import TrainSettings
from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.fit.streams import seed_of, torch_stream
from nsdflow.io.reach import reaching
from nsdflow.models.gnet import Readout
from nsdflow.monitor.events import emit
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import SubjectTrials, chosen_sessions, load_images, load_trials, score_on
from nsdflow.pipelines.gnet.settings import TrainSection
from nsdflow.pipelines.gnet.together import Seat, train_together

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from nsdflow.config.pipeline import ModelPipeline
    from nsdflow.fit.gnet.parallel import Backend
    from nsdflow.models.gnet import LevelShape
    from nsdflow.pipelines.gnet.settings import TrainedPipeline
    from nsdflow.store import Store

__all__ = [
    "TrainingData",
    "initial_readouts",
    "load_split",
    "load_subject",
    "load_training_data",
    "report_activity",
    "run_training",
]


@dataclass(frozen=True)
class TrainingData:
    """Data of a training, in memory."""

    subjects: tuple[SubjectTrials, ...]
    """All trials of each subject. Trials of shared images validate."""
    nsd_ids: NDArray[np.int64]
    """(image,) ascending."""
    images: Tensor
    """(image, channel, y, x) uint8, in the order of ``nsd_ids``."""
    trials: Mapping[str, Trials]
    """Training trials by subject, images as rows of ``images``."""

    def image_rows(self, *, training_only: bool) -> list[Tensor]:
        """Rows of the images of each subject's training trials; with ``training_only``, without the holdout."""
        return [one.images[~one.holdout] if training_only else one.images for one in self.trials.values()]


def load_training_data(config: TrainedPipeline, store: Store, *rois: str) -> TrainingData:
    """Load responses, images and splits of the pipeline's subjects, for its voxels, restricted to ``rois`` where given.

    Raises
    ------
    SelectionError
        A subject is not in the store, has no voxel in the selection, or has no trial of a shared image.
    """
    split = load_split(config, store, config.train.holdout_fraction, *rois)
    nsd_ids = np.unique(np.concatenate([subject.nsd_id for subject, _ in split]))
    trials = {}
    for subject, holdout in split:
        training = ~subject.shared
        trials[subject.subject] = Trials(
            images=torch.from_numpy(np.searchsorted(nsd_ids, subject.nsd_id[training])),
            responses=torch.from_numpy(subject.responses[training]),
            holdout=torch.from_numpy(holdout),
        )
    images = torch.from_numpy(load_images(store, nsd_ids))
    return TrainingData(tuple(subject for subject, _ in split), nsd_ids, images, trials)


def initial_readouts(
    config: TrainedPipeline, data: TrainingData, part: str, levels: Iterable[LevelShape]
) -> dict[str, Readout]:
    """Readouts before training. Each subject and trunk has a separate random stream."""
    shapes = tuple(levels)
    return {
        subject: Readout(
            trials.responses.shape[1],
            shapes,
            generator=torch_stream(config.seed, config.kind, part, "readout", subject),
        )
        for subject, trials in data.trials.items()
    }


def run_training(
    config: TrainedPipeline,
    data: TrainingData,
    encoder: nn.Module,
    readouts: Mapping[str, Readout],
    *,
    folder: str,
    part: str,
    rank: int = 0,
    processes: int = 1,
    **settings: Any,
) -> TrainResult:
    """Train from the last checkpoint. When the worker closes, stop, so that the task continues on another worker.

    ``rank`` is the number of this process among ``processes`` that share the training. All return the same result.
    ``settings`` are further arguments of :class:`~nsdflow.fit.gnet.settings.TrainSettings`.

    Raises
    ------
    RunError
        A newer copy of this training has started.
    """
    seat = Seat(f"{folder}/checkpoint", part, rank, processes)
    lease = Lease.claim(seat.folder, seat.name)
    device = choose_device(config.device)
    section = {field.name for field in fields(TrainSettings)} & TrainSection.model_fields.keys()
    resolved = TrainSettings(
        **{name: getattr(config.train, name) for name in section},
        protocol=config.protocol,
        l1=config.train.weight_penalty,
        seed=config.seed,
        stream=(config.kind, part, *(("trained prefilter",) if settings.get("train_prefilter") else ())),
        precision=config.precision or "auto",
        **settings,
    )

    def told_to_leave() -> bool:
        return should_stop() or lease.superseded()

    def leave() -> NoReturn:
        lease.check()
        hand_over()

    def run(ranks: Ranks) -> TrainResult:
        return train(
            data.images,
            data.trials,
            encoder,
            readouts,
            settings=resolved,
            device=device,
            checkpoint=seat.checkpoint,
            should_stop=told_to_leave,
            on_epoch=lambda record: _report_epoch(config.name, part, record, device),
            on_batch=lambda done, total: report_activity(config, part, "training", done, total),
            ranks=ranks,
        )

    with reaching(folder):
        if processes == 1 or seat.complete(resolved.epochs):
            result = run(Ranks())
        else:
            backend: Backend = "nccl" if device.type == "cuda" else "gloo"
            result = train_together(seat, run, backend=backend, told_to_leave=told_to_leave, leave=leave)
    if result.status == "stopped":
        leave()
    lease.release()
    return result


def load_split(
    config: ModelPipeline, store: Store, holdout_fraction: float, *rois: str
) -> list[tuple[SubjectTrials, NDArray[np.bool_]]]:
    """All trials and the holdout of each subject of a pipeline, as :func:`load_subject` returns them."""
    selection = config.selection(*rois)
    subjects = select_subjects(store.subjects, config.subjects)
    return [load_subject(config, store, name, holdout_fraction, selection) for name in subjects]


def load_subject(
    config: ModelPipeline, store: Store, subject: str, holdout_fraction: float, selection: Mapping[str, Any]
) -> tuple[SubjectTrials, NDArray[np.bool_]]:
    """Load all trials of a subject, and its holdout (training trial,), by protocol.

    The published protocol z-scores responses over all trials and holds out the last training trials. The strict
    protocol holds out images and z-scores responses on the remaining training trials. ``combine_trial`` averages the
    trials of each image after that.

    Parameters
    ----------
    holdout_fraction : float
        Share of training trials, or of images, to hold out.
    selection : mapping
        ``roi`` and ``voxels`` of the query; its sessions are those of the pipeline.

    Raises
    ------
    SelectionError
        The subject has no such voxel, or no trial of a shared image.
    """
    protocol = PROTOCOLS[config.protocol]
    shuffle = seed_of(config.seed, "shuffled images", subject) if config.shuffle_images else None
    selection = {**selection, "sessions": chosen_sessions(config, store, subject)}
    trials = load_trials(store, subject, selection, zscore=protocol.zscore, shuffle=shuffle)
    training = ~trials.shared
    if training.all():
        raise SelectionError(f"{subject} has no trial of a shared image to validate on; ingest more sessions")
    fitted_on = training.copy()
    fitted_on[training] = ~protocol.holdout(trials.nsd_id[training], holdout_fraction)
    trials = replace(trials, responses=score_on(store, protocol, trials.responses, trials.session, fitted_on))
    if config.combine_trial:
        trials = trials.averaged()
    return trials, protocol.holdout(trials.nsd_id[~trials.shared], holdout_fraction)


def report_activity(config: TrainedPipeline, part: str, text: str, done: int = 0, total: int = 0) -> None:
    """Report the activity of a training within an epoch: it reads data, or has done some batches of the epoch."""
    emit("activity", run=config.name, group=part, text=text, epochs=config.train.epochs, done=done, total=total)


def _report_epoch(run: str, part: str, record: Mapping[str, Any], device: torch.device) -> None:
    emit(
        "epoch",
        run=run,
        group=part,
        epoch=record["epoch"] + 1,
        epochs=record["epochs"],
        seconds=record["seconds"],
        loss=record["train_loss"],
        holdout_loss=record["holdout_loss"],
        accuracy=record["holdout_accuracy"],
        gpu_memory=gpu_memory(device),
        subjects={name: values["holdout_accuracy"] for name, values in record["subjects"].items()},
    )
