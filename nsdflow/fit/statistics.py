"""Correlations of many voxels at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["channel_mean", "channel_sums", "correlation"]


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


def channel_sums(images: Tensor, rows: Tensor | None = None) -> Tensor:
    """Sum of the pixels of each channel: (image, channel, y, x) uint8 -> (image, channel) int64, exact.

    Parameters
    ----------
    images : Tensor
        (image, channel, y, x) uint8.
    rows : Tensor, optional
        Which images, in what order; all by default.
    """
    images = images.cpu()
    chosen = range(len(images)) if rows is None else rows.tolist()
    sums = [images[row].sum((1, 2), dtype=torch.int64) for row in chosen]
    return torch.stack(sums) if sums else torch.zeros(0, images.shape[1], dtype=torch.int64)


def channel_mean(sums: Tensor, lists: Sequence[Tensor], pixels: int) -> Tensor:
    r"""Mean of image / 255 by channel, over the images of each list and then over the lists.

    .. math:: \bar m_c = \frac{1}{S} \sum_s \frac{1}{n_s} \sum_{i \in s} \frac{m_{ic}}{255 P}

    Parameters
    ----------
    sums : Tensor
        (image, channel) sums m of the pixels, as :func:`channel_sums` gives them.
    lists : sequence of Tensor
        Rows of the images of each subject; an image counts once per list.
    pixels : int
        Pixels P of an image.

    Returns
    -------
    Tensor
        (channel,) float64.
    """
    means = [sums[rows.unique()].sum(0).double() / (255.0 * pixels * len(rows.unique())) for rows in lists]
    return torch.stack(means).mean(0)
