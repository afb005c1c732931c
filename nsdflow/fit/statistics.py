"""Correlations per voxel, and channel means of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["channel_mean", "channel_sums", "correlate_columns"]


def correlate_columns(x: Tensor, y: Tensor) -> Tensor:
    """Compute the Pearson correlation (voxel,) float64 of each column of ``x`` with the same column of ``y``.

    Sums are computed in float64 over centred values. A column without variance gets 0, as published.

    Parameters
    ----------
    x, y : torch.Tensor
        (sample, voxel) values.
    """
    x, y = _centred(x), _centred(y)
    scale = torch.sqrt((x * x).sum(0) * (y * y).sum(0))
    return torch.nan_to_num((x * y).sum(0) / scale, nan=0.0)


def _centred(values: Tensor) -> Tensor:
    """Subtract the column mean in float64. A constant column becomes exactly zero, without the mean's rounding."""
    values = values.to(torch.float64)
    return torch.where(values.amax(0) == values.amin(0), 0.0, values - values.mean(0))


def channel_sums(images: Tensor, rows: Tensor | None = None) -> Tensor:
    """Sum the pixels of images (image, channel, y, x) uint8 exactly, to (row, channel) int64 by ``rows``."""
    images = images.cpu()
    chosen = range(len(images)) if rows is None else rows.tolist()
    sums = [images[row].sum((1, 2), dtype=torch.int64) for row in chosen]
    return torch.stack(sums) if sums else torch.zeros(0, images.shape[1], dtype=torch.int64)


def channel_mean(sums: Tensor, lists: Sequence[Tensor], pixels: int) -> Tensor:
    r"""Compute the mean (channel,) float64 of image / 255, first over the images of each list, then over the lists.

    .. math:: \bar m_c = \frac{1}{S} \sum_s \frac{1}{n_s} \sum_{i \in s} \frac{m_{ic}}{255 P}

    Parameters
    ----------
    sums : torch.Tensor
        (image, channel) pixel sums m, as returned by :func:`channel_sums`.
    lists : sequence of torch.Tensor
        Rows of the images of each of the S subjects. An image counts once per list, so n_s is the number of unique
        rows of list s.
    pixels : int
        Number P of pixels per image.
    """
    means = [sums[rows.unique()].sum(0).double() / (255.0 * pixels * len(rows.unique())) for rows in lists]
    return torch.stack(means).mean(0)
