"""One subject's training trials: what they must be, and how they lie on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nsdflow.errors import RunError

if TYPE_CHECKING:
    from nsdflow.models.gnet import Readout

__all__ = ["DeviceTrials", "Trials", "check_trials", "digest", "to_device"]


@dataclass(frozen=True)
class Trials:
    """One subject's training trials, in trial order.

    ``images`` (trial,) int64, rows of the images tensor; ``responses`` (trial, voxel); ``holdout`` (trial,) bool, the
    trials that select the best epoch instead of training.
    """

    images: Tensor
    responses: Tensor
    holdout: Tensor


@dataclass(frozen=True)
class DeviceTrials:
    """A subject's trials on the device, apart: those that train and those that select."""

    rows: Tensor
    responses: Tensor
    holdout_rows: Tensor
    holdout_responses: Tensor


def check_trials(images: Tensor, trials: Mapping[str, Trials], readouts: Mapping[str, Readout]) -> None:
    """Raise :class:`~nsdflow.errors.RunError` where trials do not fit images or readouts, or are not finite."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise RunError(f"images: {images.dtype} {tuple(images.shape)}; training takes uint8 (image, 3, y, x)")
    if set(trials) != set(readouts) or not trials:
        raise RunError(f"trials of {', '.join(trials) or 'nobody'}, readouts of {', '.join(readouts) or 'nobody'}")
    for name, subject in trials.items():
        count, voxels = len(subject.images), len(readouts[name].bias)
        if subject.responses.shape != (count, voxels) or subject.holdout.shape != (count,):
            raise RunError(
                f"{name}: responses {tuple(subject.responses.shape)} and holdout {tuple(subject.holdout.shape)} "
                f"for {count} trials and a readout of {voxels} voxels"
            )
        held_out = int(subject.holdout.sum())
        if not 0 < held_out < count:
            raise RunError(f"{name}: {held_out} of {count} trials are holdout; training needs both kinds")
        if int(subject.images.min()) < 0 or int(subject.images.max()) >= len(images):
            raise RunError(f"{name}: trials of images up to {int(subject.images.max())}, there are {len(images)}")
        if not bool(torch.isfinite(subject.responses).all()):
            raise RunError(f"{name}: responses hold NaN or infinity; leave out voxels that are not valid")


def to_device(trials: Trials, readout: Readout, device: torch.device) -> DeviceTrials:
    """Training and holdout trials apart, in the precision of the readout."""
    holdout = trials.holdout.to(torch.bool)
    responses = trials.responses.to(readout.bias.dtype)
    return DeviceTrials(
        rows=trials.images[~holdout].to(device),
        responses=responses[~holdout].to(device),
        holdout_rows=trials.images[holdout].to(device),
        holdout_responses=responses[holdout].to(device),
    )


def digest(*tensors: Tensor) -> str:
    """A hash of all values."""
    found = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        found.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return found.hexdigest()
