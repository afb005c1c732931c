"""Predictions of a trained GNet, and how good they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from nsdflow.fit.gnet.parallel import Group
from nsdflow.fit.precision import Precision, encoder_arithmetic
from nsdflow.fit.statistics import correlation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nsdflow.models.gnet import Readout

__all__ = ["Evaluation", "evaluate", "predict", "predict_partitions"]


@dataclass(frozen=True)
class Evaluation:
    """Against single trials: ``loss``, the sum over trials of the mean over voxels of the squared error; and
    ``correlation`` (voxel,), Pearson's over trials, 0 where it is not defined; both on the CPU."""

    loss: float
    correlation: Tensor


def predict(
    encoder: nn.Module,
    readout: Readout,
    images: Tensor,
    rows: Tensor | None = None,
    *,
    batch_size: int = 100,
    precision: Precision = "float32",
) -> Tensor:
    """Predictions (row, voxel) in evaluation mode, on the readout's device.

    Parameters
    ----------
    images
        (image, 3, y, x) uint8, on any device; batches are moved to the readout's.
    rows
        (row,) which images, in what order; default all.
    """
    return _read(readout, readout, encoder, images, rows, batch_size, precision)


def predict_partitions(
    encoder: nn.Module,
    readout: Readout,
    images: Tensor,
    rows: Tensor | None = None,
    *,
    partitions: Sequence[slice],
    batch_size: int = 100,
    precision: Precision = "float32",
) -> Tensor:
    """What each partition of the features adds to the predictions: (row, voxel, partition), in one forward pass.

    ``partitions`` are slices of the features, such as those of :func:`nsdflow.models.gnet.layer_slices`; the rest as in
    :func:`predict`.
    """
    read = partial(readout.contributions, partitions=partitions)
    return _read(read, readout, encoder, images, rows, batch_size, precision)


@torch.no_grad()
def _read(
    read: Callable[[Sequence[Tensor]], Tensor],
    readout: Readout,
    encoder: nn.Module,
    images: Tensor,
    rows: Tensor | None,
    batch_size: int,
    precision: Precision,
) -> Tensor:
    """``read`` of the feature maps of some images, batch by batch."""
    device = readout.bias.device
    rows = torch.arange(len(images)) if rows is None else rows
    batches = []
    with _evaluation_mode(encoder):
        for batch in rows.to(images.device).split(batch_size):
            with encoder_arithmetic(precision, device):
                levels = encoder(images[batch].to(device))
            batches.append(read(levels))
    return torch.cat(batches)


def evaluate(
    encoder: nn.Module,
    readout: Readout,
    images: Tensor,
    rows: Tensor,
    responses: Tensor,
    *,
    batch_size: int = 100,
    precision: Precision = "float32",
    group: Group | None = None,
) -> Evaluation:
    """Predict each image of ``rows`` (trial,) once, and hold it against every trial of ``responses`` (trial, voxel).

    The processes of ``group`` share the images, and all get the same result.
    """
    group = group or Group()
    unique, image_of_trial = rows.unique(return_inverse=True)
    part = group.part(len(unique))
    by_image = readout.bias.new_zeros(len(unique), len(readout.bias))
    by_image[part] = predict(encoder, readout, images, unique[part], batch_size=batch_size, precision=precision)
    group.sum(by_image)
    responses = responses.to(by_image.device, by_image.dtype)
    prediction = by_image[image_of_trial.to(by_image.device)]
    loss = (prediction - responses).square().mean(1).sum(dtype=torch.float64)
    return Evaluation(float(loss), correlation(prediction, responses).cpu())


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
