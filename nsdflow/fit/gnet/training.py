"""Training of GNet: one trunk and one readout per subject, by the published or the strict protocol.

::

    result = train(
        images,                                   # (image, 3, y, x) uint8
        {"subj01": Trials(rows, responses, holdout)},
        encoder, {"subj01": readout},
        settings=TrainSettings(epochs=50, seed=0),
        device="cuda:0", checkpoint=folder / "checkpoint.pt", should_stop=..., on_epoch=...,
    )
    result.encoder, result.readouts["subj01"]     # of the best epoch, on the CPU

``published``: each batch takes two steps in turn. The first pass updates the trunk. A second pass, through the updated
trunk, updates the readout of the subject. The first pass computes no gradients of the readout, and the second none of
the trunk. Both passes share the output of a frozen prefilter. ``strict``: one pass updates both.

Random draws (the order of batches, dropout masks) come from named streams (:mod:`nsdflow.fit.streams`) and do not
depend on earlier draws. A training that was stopped and resumed therefore gives bit-identical results.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nsdflow.fit.gnet.checkpoint import (
    Checkpoint,
    Progress,
    Snapshot,
    check_fingerprint,
    read_checkpoint,
    write_checkpoint,
)
from nsdflow.fit.gnet.evaluate import score_readout
from nsdflow.fit.gnet.inputs import PrefilterCache, choose_cache, load_inputs
from nsdflow.fit.gnet.optimizer import UNRECORDED_OPTIMIZER, describe_optimizers
from nsdflow.fit.gnet.parallel import Ranks
from nsdflow.fit.gnet.settings import TrainSettings
from nsdflow.fit.gnet.states import optimizer_states, restore, snapshot
from nsdflow.fit.gnet.step import TrainingModules, TrialBatch, build_modules, choose_step
from nsdflow.fit.gnet.trials import DeviceTrials, Trials, check_trials, digest, to_device
from nsdflow.fit.precision import Precision, arithmetic, resolve_precision
from nsdflow.fit.streams import numpy_stream, seed_of
from nsdflow.models.gnet import ChannelDropout, Readout

__all__ = ["TrainResult", "TrainSettings", "Trials", "train"]

#: Distance in pixels between the samples of each image in the fingerprint. All images of NSD take 11 GB.
IMAGE_STEP_PX = 16
#: What trainings did whose checkpoints lack a key. The default of a new setting is therefore what was done before.
_UNRECORDED = {"optimizer": UNRECORDED_OPTIMIZER, **asdict(TrainSettings())}
#: Seconds between calls of ``should_stop``, which may read a file, in a single process.
_STOP_INTERVAL_S = 2.0
#: Batches between calls of ``should_stop`` if several processes train.
_STOP_BATCHES = 20


@dataclass(frozen=True)
class TrainResult:
    """Result of a training. Modules and tensors are on the CPU.

    Parameters
    ----------
    status : {"done", "stopped"}
        State of the training. A stopped training is resumed from its checkpoint.
    encoder : torch.nn.Module
        Encoder of the best epoch, which has the highest median holdout correlation over the voxels of all subjects.
        It is the encoder of the last epoch if no epoch scored above 0.
    readouts : dict of str to Readout
        Readout of each subject, of the same epoch as ``encoder``.
    final_encoder : torch.nn.Module
        Encoder of the last epoch.
    final_readouts : dict of str to Readout
        Readout of each subject, of the last epoch.
    best_epoch : int, optional
        Best epoch, counted from 0; None if no epoch scored above 0.
    best_score : float
        Median holdout correlation of the best epoch; 0 if no epoch scored above 0.
    history : list of dict
        One record per epoch: ``epoch``, ``train_loss`` and ``holdout_loss`` (squared error per trial, mean over
        voxels), ``holdout_accuracy`` (median over voxels), ``max_holdout_accuracy``, ``seconds``, and ``subjects`` with
        losses and accuracy per subject.
    holdout_accuracy : dict of str to torch.Tensor
        (epoch, voxel) holdout correlation of each subject.
    precision : {"float32", "tf32", "bfloat16"}
        Resolved precision.
    prefilter_cache : {"none", "half", "full"}
        Resolved cache.
    """

    status: Literal["done", "stopped"]
    encoder: nn.Module
    readouts: dict[str, Readout]
    final_encoder: nn.Module
    final_readouts: dict[str, Readout]
    best_epoch: int | None
    best_score: float
    history: list[dict[str, Any]]
    holdout_accuracy: dict[str, Tensor]
    precision: Precision
    prefilter_cache: PrefilterCache


def train(
    images: Tensor,
    trials: Mapping[str, Trials],
    encoder: nn.Module,
    readouts: Mapping[str, Readout],
    *,
    settings: TrainSettings | None = None,
    device: torch.device | str = "cpu",
    checkpoint: str | Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    ranks: Ranks | None = None,
) -> TrainResult:
    """Train ``encoder`` and ``readouts`` together. The arguments are not modified; the result holds copies.

    Parameters
    ----------
    images : torch.Tensor
        (image, 3, y, x) uint8. They are moved to the device once.
    trials : mapping of str to Trials
        Trials of each subject. Batches follow the order of this mapping before they are shuffled.
    encoder : torch.nn.Module
        An :class:`~nsdflow.models.gnet.Encoder`. With ``train_encoder=False``, any module that takes a batch of images
        and a generator and returns a list of feature maps (:class:`~nsdflow.models.gnet.FrozenEncoder`).
    readouts : mapping of str to Readout
        Readout of each subject, with the same names as ``trials``.
    checkpoint : str or pathlib.Path, optional
        File that stores the full state after every epoch. A training resumes from this file if it exists.
    should_stop : callable
        Called before every epoch and every two seconds between batches (every 20 batches in several processes). If it
        returns True, training returns with status "stopped". The next call repeats the unfinished epoch.
    on_epoch : callable
        Called with each new record of the history, plus ``epochs`` (the total number) and ``best_epoch``.
    on_batch : callable
        Called as often as ``should_stop``, with the numbers of finished and of all batches of the epoch.
    ranks : Ranks, optional
        Processes that share each batch (:mod:`nsdflow.fit.gnet.parallel`). They pass the same arguments except the
        device. The first writes the checkpoint and calls ``on_epoch``. All stop if ``should_stop`` is True in any.

    Raises
    ------
    RunError
        Trials do not match or are not finite, or the checkpoint is damaged or belongs to another training.
    """
    device = torch.device(device)
    check_trials(images, trials, readouts)
    ranks = ranks or Ranks()
    settings = _on_device(settings or TrainSettings(), device)
    copies = {subject: copy.deepcopy(readouts[subject]) for subject in trials}
    modules = build_modules(copy.deepcopy(encoder), copies, settings, device, ranks)
    subjects = {subject: to_device(trials[subject], modules.readouts[subject], device) for subject in trials}
    found = None if checkpoint is None else read_checkpoint(checkpoint)
    settings = replace(settings, prefilter_cache=_cache(settings, modules, images, device, found))
    fingerprint = _fingerprint(settings, images, trials, encoder, modules)
    if checkpoint is not None and found is not None:
        check_fingerprint(checkpoint, found, fingerprint, _UNRECORDED)
        restore(found, modules)
    progress = Progress() if found is None else found.progress

    status: Literal["done", "stopped"] = "done"
    with arithmetic(settings.precision, device):
        images = load_inputs(modules.encoder, images, settings.prefilter_cache, device, settings.batch_size)
        while progress.epoch < settings.epochs:
            started = time.perf_counter()
            errors = _train_epoch(modules, images, subjects, settings, progress.epoch, should_stop, on_batch)
            if errors is None:
                status = "stopped"
                break
            record = _evaluate_epoch(modules, images, subjects, settings, progress, errors)
            record["seconds"] = time.perf_counter() - started
            progress.history.append(record)
            progress.epoch += 1
            if checkpoint is not None and ranks.rank == 0:
                state = snapshot(modules), optimizer_states(modules)
                write_checkpoint(checkpoint, Checkpoint(fingerprint, settings.prefilter_cache, *state, progress))
            if ranks.rank == 0:
                on_epoch({**record, "epochs": settings.epochs, "best_epoch": progress.best_epoch})
    ranks.any(False, device)  # all processes wait for the first to write the last checkpoint
    return _result(status, encoder, modules, progress, settings)


def _on_device(settings: TrainSettings, device: torch.device) -> TrainSettings:
    return replace(settings, precision=resolve_precision(settings.precision, device))


def _cache(
    settings: TrainSettings,
    modules: TrainingModules,
    images: Tensor,
    device: torch.device,
    found: Checkpoint | None,
) -> PrefilterCache:
    """Resolve ``auto``: the cache of the checkpoint if it exists; else "half" only if all processes can use it."""
    if settings.prefilter_cache != "auto":
        return settings.prefilter_cache
    if found is not None:
        return found.prefilter_cache
    here = choose_cache(modules.encoder, images, device, settings.precision)
    return "none" if modules.ranks.any(here == "none", device) else here


def _train_epoch(
    modules: TrainingModules,
    images: Tensor,
    subjects: Mapping[str, DeviceTrials],
    settings: TrainSettings,
    epoch: int,
    should_stop: Callable[[], bool],
    on_batch: Callable[[int, int], None],
) -> dict[str, float] | None:
    """Train on every batch once; return squared errors per subject (voxel mean, trial sum), or None if stopped."""
    step, ranks = choose_step(settings), modules.ranks
    batches = _batches(subjects, settings, epoch)
    generator = torch.Generator(images.device)
    errors = {subject: torch.zeros((), dtype=torch.float64, device=images.device) for subject in subjects}
    asked = -math.inf
    for number, (name, trials) in enumerate(batches):
        # all processes must call should_stop at the same batch, so they count batches instead of seconds
        due = time.monotonic() >= asked + _STOP_INTERVAL_S if ranks.size == 1 else number % _STOP_BATCHES == 0
        if due:
            if ranks.any(should_stop(), images.device):
                return None
            asked = time.monotonic()
            if ranks.rank == 0:
                on_batch(number, len(batches))
        subject = subjects[name]
        ranks.trials = trials.stop - trials.start
        own = ranks.part(ranks.trials)
        batch = TrialBatch(
            subject=name,
            images=images[subject.rows[trials][own]],
            responses=subject.responses[trials][own],
            generator=generator.manual_seed(
                seed_of(settings.seed, *settings.stream, "dropout", name, epoch, trials.start)
            ),
        )
        errors[name] += step(modules, batch, settings).mean()
    return {subject: float(ranks.sum(error)) for subject, error in errors.items()}


def _batches(subjects: Mapping[str, DeviceTrials], settings: TrainSettings, epoch: int) -> list[tuple[str, slice]]:
    """List the batches of an epoch, each of consecutive trials of one subject, in random order over all subjects.

    The order sorts random keys, which each subject draws from a separate stream. An additional subject only inserts
    batches.
    """
    size = settings.batch_size
    batches, keys = [], []
    for name, subject in subjects.items():
        starts = range(0, len(subject.rows), size)
        batches += [(name, slice(start, min(start + size, len(subject.rows)))) for start in starts]
        keys.append(numpy_stream(settings.seed, *settings.stream, "order", name, epoch).random(len(starts)))
    if not settings.shuffle:
        return batches
    return [batches[i] for i in np.argsort(np.concatenate(keys), kind="stable")]


def _evaluate_epoch(
    modules: TrainingModules,
    images: Tensor,
    subjects: Mapping[str, DeviceTrials],
    settings: TrainSettings,
    progress: Progress,
    errors: Mapping[str, float],
) -> dict[str, Any]:
    """Evaluate the epoch on the holdout, keep a snapshot if it is the best, and return its record."""
    holdout = {
        name: score_readout(
            modules.encoder,
            modules.readouts[name],
            images,
            subject.holdout_rows,
            subject.holdout_responses,
            batch_size=settings.batch_size,
            precision=settings.precision,
            ranks=modules.ranks,
        )
        for name, subject in subjects.items()
    }
    score = _median(torch.cat([holdout[name].correlation for name in subjects]))
    if score > progress.best_score:
        progress.best_epoch, progress.best_score, progress.best = progress.epoch, score, snapshot(modules)
    for name in subjects:
        progress.holdout_accuracy.setdefault(name, []).append(holdout[name].correlation)
    training_trials = {name: len(subject.rows) for name, subject in subjects.items()}
    holdout_trials = {name: len(subject.holdout_rows) for name, subject in subjects.items()}
    return {
        "epoch": progress.epoch,
        "train_loss": sum(errors.values()) / sum(training_trials.values()),
        "holdout_loss": sum(h.loss for h in holdout.values()) / sum(holdout_trials.values()),
        "holdout_accuracy": score,
        "max_holdout_accuracy": max(float(h.correlation.max()) for h in holdout.values()),
        "subjects": {
            name: {
                "train_loss": errors[name] / training_trials[name],
                "holdout_loss": holdout[name].loss / holdout_trials[name],
                "holdout_accuracy": _median(holdout[name].correlation),
            }
            for name in subjects
        },
    }


def _median(values: Tensor) -> float:
    """Compute the median with numpy, because torch returns the lower of two middle values."""
    return float(np.median(values.numpy()))


def _fingerprint(
    settings: TrainSettings,
    images: Tensor,
    trials: Mapping[str, Trials],
    encoder: nn.Module,
    modules: TrainingModules,
) -> dict[str, Any]:
    """Collect what a checkpoint must match. ``epochs`` may change, and ``kernels`` only affects rounding."""
    fixed = {key: value for key, value in asdict(settings).items() if key not in ("epochs", "kernels")}
    digests = {name: digest(subject.images, subject.responses, subject.holdout) for name, subject in trials.items()}
    digests["images"] = digest(images[:, :, ::IMAGE_STEP_PX, ::IMAGE_STEP_PX])
    shapes = {name: tuple(values.shape) for name, values in encoder.state_dict().items()}
    rates = [module.share for module in encoder.modules() if isinstance(module, ChannelDropout)]
    digests["encoder"] = hashlib.blake2b(repr((shapes, rates)).encode(), digest_size=8).hexdigest()
    dtypes = {f"{name} dtype": str(readout.bias.dtype) for name, readout in modules.readouts.items()}
    optimizers = [modules.encoder_optimizer, *modules.readout_optimizers.values()]
    described = describe_optimizers([each for each in optimizers if each is not None], settings.learning_rate)
    return fixed | digests | dtypes | {"optimizer": described}


def _result(
    status: Literal["done", "stopped"],
    encoder: nn.Module,
    modules: TrainingModules,
    progress: Progress,
    settings: TrainSettings,
) -> TrainResult:
    now = snapshot(modules)
    final_encoder, final_readouts = _modules(encoder, modules, now)
    best_encoder, best_readouts = _modules(encoder, modules, progress.best or now)
    return TrainResult(
        status=status,
        encoder=best_encoder,
        readouts=best_readouts,
        final_encoder=final_encoder,
        final_readouts=final_readouts,
        best_epoch=progress.best_epoch,
        best_score=progress.best_score,
        history=progress.history,
        holdout_accuracy={name: torch.stack(epochs) for name, epochs in progress.holdout_accuracy.items()},
        precision=settings.precision,
        prefilter_cache=settings.prefilter_cache,
    )


def _modules(encoder: nn.Module, modules: TrainingModules, state: Snapshot) -> tuple[nn.Module, dict[str, Readout]]:
    """Load a snapshot into copies of the modules."""
    encoder = copy.deepcopy(encoder).cpu().eval()
    encoder.load_state_dict(state.encoder)
    readouts = {name: copy.deepcopy(readout).cpu().eval() for name, readout in modules.readouts.items()}
    for name, readout in readouts.items():
        readout.load_state_dict(state.readouts[name])
    return encoder, readouts
