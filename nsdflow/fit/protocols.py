"""The two protocols of fits, and everything in which they differ: the published one, and one without leaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nsdflow.fit.split import image_holdout, last_trials_holdout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PROTOCOLS", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """How a fit splits its trials, and on which data it computes statistics."""

    holdout: Callable[[NDArray[np.int64], float], NDArray[np.bool_]]
    """Holdout (trial,) of training trials, from the image (trial,) of each and the share to hold out."""
    training_only: bool
    """Whether z-scores, statistics of features, the choice of channels and the mean image come from training trials
    without the holdout alone."""
    joint_step: bool
    """Whether a batch updates encoder and readout in one optimizer step; otherwise in two, one after the other."""
    text: str
    """What passes from validation or selection trials into training, for cards and reports."""


#: Protocols by the setting ``protocol``.
PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "published": Protocol(
        lambda images, fraction: last_trials_holdout(len(images), fraction),
        training_only=False,
        joint_step=False,
        text="as in the paper: responses are z-scored over all trials of a session, those of validation images "
        "included, and the holdout is the last part of the training trials, which can repeat training images",
    ),
    "strict": Protocol(
        image_holdout,
        training_only=True,
        joint_step=True,
        text="leak-free: images are held out with all their trials, and every statistic is fitted on training trials "
        "only; the paper's figures come from the published protocol",
    ),
}
