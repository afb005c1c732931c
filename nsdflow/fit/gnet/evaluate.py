"""Predictions of a trained GNet, and their evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from nsdflow.fit.gnet.parallel import Ranks
from nsdflow.fit.precision import Precision, encoder_arithmetic
from nsdflow.fit.statistics import correlate_columns

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nsdflow.models.gnet import Readout

__all__ = ["Evaluation", "predict", "predict_partitions", "score_readout"]


@dataclass(frozen=True)
class Evaluation:
    """Evaluation against single trials.

    Parameters
    ----------
    loss : float
        Squared error, averaged over voxels and summed over trials.
    correlation : torch.Tensor
        (voxel,) Pearson correlation over trials, on the CPU. It is 0 where the correlation is undefined.
    """

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
    """Predict responses in evaluation mode.

    Parameters
    ----------
    encoder : torch.nn.Module
        Encoder that returns a list of feature maps.
    readout : Readout
        Readout of one subject.
    images : torch.Tensor
        (image, 3, y, x) uint8, on any device. Batches are moved to the device of the readout.
    rows : torch.Tensor, optional
        (row,) indices of the images, in output order. Default: all images.
    batch_size : int
        Number of images per batch.
    precision : {"float32", "tf32", "bfloat16"}
        Precision of the encoder, see :mod:`nsdflow.fit.precision`.

    Returns
    -------
    torch.Tensor
        (row, voxel) predictions, on the device of the readout.
    """
    return _read(readout, readout, encoder, images, rows, batch_size, precision)


def predict_partitions(
    encoder: nn.Module,
    readout: Readout,
    images: Tensor,
    *,
    partitions: Sequence[slice],
    batch_size: int = 100,
) -> Tensor:
    """Compute the contributions (image, voxel, partition) of each partition of the features to the predictions.

    The other arguments are those of :func:`predict`.

    Parameters
    ----------
    partitions : sequence of slice
        Slices of the features, such as those of :func:`nsdflow.models.gnet.layer_slices`.
    """
    read = partial(readout.contributions, partitions=partitions)
    return _read(read, readout, encoder, images, None, batch_size, "float32")


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
    """Apply ``read`` to the feature maps of the images ``rows`` (row,), batch by batch."""
    device = readout.bias.device
    rows = torch.arange(len(images)) if rows is None else rows
    batches = []
    with _evaluation_mode(encoder):
        for batch in rows.to(images.device).split(batch_size):
            with encoder_arithmetic(precision, device):
                levels = encoder(images[batch].to(device))
            batches.append(read(levels))
    return torch.cat(batches)


def score_readout(
    encoder: nn.Module,
    readout: Readout,
    images: Tensor,
    rows: Tensor,
    responses: Tensor,
    *,
    batch_size: int = 100,
    precision: Precision = "float32",
    ranks: Ranks | None = None,
) -> Evaluation:
    """Predict each image of ``rows`` (trial,) once, and compare it with each of its trials in ``responses``.

    ``responses`` has shape (trial, voxel). The processes share the images, and all get the same result.
    """
    ranks = ranks or Ranks()
    unique, image_of_trial = rows.unique(return_inverse=True)
    part = ranks.part(len(unique))
    by_image = readout.bias.new_zeros(len(unique), len(readout.bias))
    by_image[part] = predict(encoder, readout, images, unique[part], batch_size=batch_size, precision=precision)
    ranks.sum(by_image)
    responses = responses.to(by_image.device, by_image.dtype)
    prediction = by_image[image_of_trial.to(by_image.device)]
    loss = (prediction - responses).square().mean(1).sum(dtype=torch.float64)
    return Evaluation(float(loss), correlate_columns(prediction, responses).cpu())


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
