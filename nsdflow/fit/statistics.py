"""Correlations of many voxels at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["channel_mean", "correlation"]


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation of each column: (sample, voxel) twice -> (voxel,) float64.

    Sums run in float64 over centred values. A column without variance has no correlation: 0, as published.
    """
    x, y = _centred(x), _centred(y)
    scale = torch.sqrt((x * x).sum(0) * (y * y).sum(0))
    return torch.nan_to_num((x * y).sum(0) / scale, nan=0.0)


def _centred(values: Tensor) -> Tensor:
    """Minus the mean; exactly zero where all are equal, where the mean's rounding would look like a signal."""
    values = values.to(torch.float64)
    return torch.where(values.amax(0) == values.amin(0), 0.0, values - values.mean(0))


def channel_mean(images: Tensor, rows: Sequence[Tensor] | None = None) -> Tensor:
    """Mean of image / 255 by channel: (image, channel, y, x) uint8 -> (channel,) float64, from exact integer sums.

    ``rows``, one tensor of image indices a subject, counts each image once for every subject that has it; without it
    each image counts once.
    """
    count = torch.ones(len(images), dtype=torch.int64)
    if rows is not None:
        count = torch.stack([torch.bincount(row.unique(), minlength=len(images)) for row in rows]).sum(0)
    total = torch.stack([image.sum((1, 2), dtype=torch.int64) for image in images.cpu()])
    return (total * count[:, None]).sum(0).double() / (255.0 * int(count.sum()) * images[0, 0].numel())
