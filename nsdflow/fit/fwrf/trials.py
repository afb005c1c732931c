"""Sums of single-trial responses per image, which suffice for a ridge fit on image features.

All trials of image i have the same features x_i. Let n_i be its number of training trials, and s_i the sum of their
responses. X (trial, feature) and Y (trial, voxel) stack the training trials. Then

    X'X = sum_i n_i x_i x_i',     X'Y = sum_i x_i s_i,

Let m_i be the number of holdout trials of image i, y_i their mean response, and p_i the prediction. The squared error
of the holdout trials has one term per image, plus a term that no model changes:

    sum_trials (y - p)^2 = sum_i m_i (y_i - p_i)^2 + sum_trials (y - y_i)^2.

The solver therefore uses one row per image, weighted by the square root of its count. The results equal those on
trials.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

__all__ = ["StatisticsTrials", "TrialSums", "sum_trials"]

#: Trials that define the means and standard deviations of features.
StatisticsTrials = Literal["all", "training"]

#: Trials per copied block of responses.
TRIALS_AT_ONCE = 256


@dataclass(frozen=True)
class TrialSums:
    """Responses of one subject, summed per image.

    ``images`` (image,) int64 holds the rows of the feature maps that were shown. ``train`` (train image,) and
    ``holdout`` (holdout image,) index into it. Images with trials in both parts come last in ``train`` and first in
    ``holdout``, in the same order.
    """

    images: Tensor
    share: Tensor
    """(image,) float32, share of the image in the trials that define the feature statistics."""
    train: Tensor
    train_count: Tensor
    """(train image,) float32, n_i."""
    train_sum: Tensor
    """(train image, voxel) float32, s_i / sqrt(n_i)."""
    holdout: Tensor
    holdout_count: Tensor
    """(holdout image,) float32, m_i."""
    holdout_mean: Tensor
    """(holdout image, voxel) float32, sqrt(m_i) y_i."""
    repeated: Tensor
    """(image in both,) float32, sqrt(m_i / n_i)."""
    unexplainable: Tensor
    """(voxel,) float64, summed squared deviation of holdout trials from the mean of their image."""

    def rows_on(self, device: torch.device) -> TrialSums:
        """Copy all per-image tensors except ``images`` and the responses to a device, so that loops need no copies."""
        by_image = ("share", "train", "train_count", "holdout", "holdout_count", "repeated")
        return replace(self, **{name: getattr(self, name).to(device) for name in by_image})

    @property
    def bytes(self) -> int:
        """Bytes of the response sums."""
        return sum(sums.nbytes for sums in (self.train_sum, self.holdout_mean, self.unexplainable))

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(self.train_sum.shape[1])


def sum_trials(
    images: Tensor, responses: Tensor, holdout: Tensor, *, statistics: StatisticsTrials = "all"
) -> TrialSums:
    """Sum responses per image, apart for training and holdout trials.

    Parameters
    ----------
    images : torch.Tensor
        (trial,) int64, row of the feature maps shown in each trial.
    responses : torch.Tensor
        (trial, voxel) float32, finite.
    holdout : torch.Tensor
        (trial,) bool, trials that select candidate and lambda. All others are training trials. Published: the last
        tenth in trial order. Strict: all trials of some images (see :mod:`nsdflow.fit.split`).
    statistics : {"all", "training"}
        Trials that define the feature statistics: all trials, including the holdout (published), or training trials
        only.

    Raises
    ------
    ValueError
        Lengths differ, the training or holdout set is empty, or a response is not finite.
    """
    if not len(images) == len(responses) == len(holdout):
        raise ValueError(f"{len(images)} images, {len(responses)} responses and {len(holdout)} holdout marks of trials")
    if holdout.dtype != torch.bool:
        raise ValueError(f"holdout marks are {holdout.dtype}; give bool, True for trials that choose")
    if len(images) and int(images.min()) < 0:
        raise ValueError(f"image row {int(images.min())} of a trial; rows count from 0")
    if bool(holdout.all()) or not bool(holdout.any()):
        raise ValueError(f"{int(holdout.sum())} of {len(holdout)} trials are holdout; both parts need at least one")
    finite = torch.isfinite(_sum(responses))
    if not bool(finite.all()):
        raise ValueError(f"responses of {int((~finite).sum())} voxels are not finite; replace NaN by 0 or drop them")
    shown, image = torch.unique(images, return_inverse=True)
    trained, held = (torch.bincount(image[part], minlength=len(shown)) > 0 for part in (~holdout, holdout))
    both = (trained & held).nonzero()[:, 0]
    train = torch.cat([(trained & ~held).nonzero()[:, 0], both])
    test = torch.cat([both, (held & ~trained).nonzero()[:, 0]])
    train_count, train_sum = _sums(image, responses, ~holdout, train)
    test_count, test_mean = _sums(image, responses, holdout, test)
    count = torch.bincount(image if statistics == "all" else image[~holdout], minlength=len(shown)).double()
    unexplainable = _sum(responses, holdout, square=True) - _sum(test_mean, square=True)
    return TrialSums(
        images=shown,
        share=(count / count.sum()).float(),
        train=train,
        train_count=train_count,
        train_sum=train_sum,
        holdout=test,
        holdout_count=test_count,
        holdout_mean=test_mean,
        repeated=(test_count[: len(both)] / train_count[len(train) - len(both) :]).sqrt(),
        unexplainable=unexplainable,
    )


def _sums(image: Tensor, responses: Tensor, part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return trial counts n (image,) of the wanted images in a part, and response sums / sqrt(n) (image, voxel)."""
    images = int(image.max()) + 1
    place = torch.empty(images, dtype=torch.int64)
    place[wanted] = torch.arange(len(wanted))
    total = torch.zeros(len(wanted), responses.shape[1])
    for trials in part.nonzero()[:, 0].split(TRIALS_AT_ONCE):
        total.index_add_(0, place[image[trials]], responses[trials].float())
    count = torch.bincount(image[part], minlength=images)[wanted].float()
    return count, total.div_(count.sqrt()[:, None])


def _sum(values: Tensor, part: Tensor | None = None, *, square: bool = False) -> Tensor:
    """Sum the rows of a part, or their squares, to (voxel,) float64, block by block."""
    total = torch.zeros(values.shape[1], dtype=torch.float64)
    rows = torch.arange(len(values)) if part is None else part.nonzero()[:, 0]
    for some in rows.split(TRIALS_AT_ONCE):
        block = values[some].double()
        total += (block.square_() if square else block).sum(0)
    return total
