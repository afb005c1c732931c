"""Trials summed by image: all that a ridge fit on image features needs to know of single-trial responses.

Trials of an image have the same features x_i. With n_i training trials of image i and s_i the sum of their responses,

    X'X = sum_i n_i x_i x_i',     X'Y = sum_i x_i s_i,

and the squared error of the holdout trials is, with m_i of them and mean response y_i, one row an image plus a part
that no model changes:

    sum_trials (y - p)^2 = sum_i m_i (y_i - p_i)^2 + sum_trials (y - y_i)^2.

Rows are therefore images weighted by the square root of their counts; the results are those of the trials.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Statistics", "TrialSums", "sum_trials"]

#: Trials that feature means and standard deviations are taken over.
Statistics = Literal["all", "training"]

#: Trials whose responses are copied at once.
TRIALS_AT_ONCE = 256


@dataclass(frozen=True)
class TrialSums:
    """Responses of one subject, by image.

    ``images`` (image,) are the rows of the feature maps that were shown; ``train`` and ``holdout`` index into it. The
    images that have trials in both come last in ``train`` and first in ``holdout``, in the same order.
    """

    images: Tensor
    share: Tensor
    """(image,) float32, the image's share of the trials that feature statistics are taken over."""
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
    """(voxel,) float64, the squared deviation of holdout trials from the mean of their image."""

    def rows_on(self, device: torch.device) -> TrialSums:
        """The same with all that is by image, but not the responses, on a device, so that loops need not copy it."""
        by_image = ("share", "train", "train_count", "holdout", "holdout_count", "repeated")
        return replace(self, **{name: getattr(self, name).to(device) for name in by_image})

    @property
    def bytes(self) -> int:
        """Bytes of the sums."""
        return sum(sums.nbytes for sums in (self.train_sum, self.holdout_mean, self.unexplainable))

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(self.train_sum.shape[1])


def sum_trials(images: Tensor, responses: Tensor, holdout: Tensor, *, statistics: Statistics = "all") -> TrialSums:
    """Sum responses by image.

    Parameters
    ----------
    images : (trial,) row of the feature maps shown at each trial.
    responses : (trial, voxel) float32, finite.
    holdout : (trial,) bool, trials kept for the choice of candidate and lambda; the others train. Published: the last
        tenth in trial order. Strict: all trials of some images (see :mod:`nsdflow.fit.split`).
    statistics : feature statistics over ``all`` trials, holdout included (published), or ``training`` trials only.

    Raises
    ------
    ValueError
        Lengths differ, there is no training or no holdout trial, or a response is not finite.
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
    """Of the images wanted, how many trials of a part they have, and the sums of responses over the roots of these."""
    images = int(image.max()) + 1
    place = torch.empty(images, dtype=torch.int64)
    place[wanted] = torch.arange(len(wanted))
    total = torch.zeros(len(wanted), responses.shape[1])
    for trials in part.nonzero()[:, 0].split(TRIALS_AT_ONCE):
        total.index_add_(0, place[image[trials]], responses[trials].float())
    count = torch.bincount(image[part], minlength=images)[wanted].float()
    return count, total.div_(count.sqrt()[:, None])


def _sum(values: Tensor, part: Tensor | None = None, *, square: bool = False) -> Tensor:
    """Sum (voxel,) float64 of the rows of a part, or of their squares, without a copy of all."""
    total = torch.zeros(values.shape[1], dtype=torch.float64)
    rows = torch.arange(len(values)) if part is None else part.nonzero()[:, 0]
    for some in rows.split(TRIALS_AT_ONCE):
        block = values[some].double()
        total += (block.square_() if square else block).sum(0)
    return total
