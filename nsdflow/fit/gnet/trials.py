"""Training trials of one subject: validation, and transfer to the device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nsdflow.errors import RunError
from nsdflow.models.gnet import Readout

__all__ = ["DeviceTrials", "Trials", "check_trials", "digest", "to_device"]


@dataclass(frozen=True)
class Trials:
    """Training trials of one subject, in trial order.

    Parameters
    ----------
    images : torch.Tensor
        (trial,) int64, rows of the images tensor.
    responses : torch.Tensor
        (trial, voxel) responses.
    holdout : torch.Tensor
        (trial,) bool, trials that select the best epoch and are not trained on.
    """

    images: Tensor
    responses: Tensor
    holdout: Tensor


@dataclass(frozen=True)
class DeviceTrials:
    """Trials of one subject on the device, separated into training and holdout trials."""

    rows: Tensor
    responses: Tensor
    holdout_rows: Tensor
    holdout_responses: Tensor


def check_trials(images: Tensor, trials: Mapping[str, Trials], readouts: Mapping[str, Readout]) -> None:
    """Raise :class:`~nsdflow.errors.RunError` if trials do not match images or readouts, or are not finite."""
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
    """Separate training and holdout trials, and move them to the device in the dtype of the readout."""
    holdout = trials.holdout.to(torch.bool)
    responses = trials.responses.to(readout.bias.dtype)
    return DeviceTrials(
        rows=trials.images[~holdout].to(device),
        responses=responses[~holdout].to(device),
        holdout_rows=trials.images[holdout].to(device),
        holdout_responses=responses[holdout].to(device),
    )


def digest(*tensors: Tensor) -> str:
    """Return a hash of all values."""
    found = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        found.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return found.hexdigest()
