"""The two protocols of fits, and everything in which they differ: the published one, and one without leaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.fit.split import image_holdout, last_trials_holdout
from nsdflow.fit.zscoring import zscore_on

__all__ = ["PROTOCOLS", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """How a fit splits its trials, and on which data it computes statistics."""

    holdout: Callable[[NDArray[np.int64], float], NDArray[np.bool_]]
    """Holdout (trial,) of training trials, from the image (trial,) of each and the share to hold out."""
    training_only: bool
    """Whether statistics of features, the choice of channels and the mean image come from training trials without the
    holdout alone."""
    joint_step: bool
    """Whether a batch updates encoder and readout in one optimizer step; otherwise in two, one after the other."""
    zscore: str | bool
    """Z-scoring of the query that reads responses, a key of :data:`nsdflow.store.query.zscoring.ZSCORINGS`."""
    zscore_on: Callable[[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]], NDArray[np.float32]] | None
    """Z-scores of the responses (trial, voxel) that were read, from the session (trial,) of each and whether it is a
    training trial outside of the holdout; None if the query z-scores."""
    text: str
    """What passes from validation or selection trials into training, for cards and reports."""

    @property
    def evaluation_zscore(self) -> str | bool:
        """Z-scoring of responses on which a finished model is scored, also those without training trials."""
        return self.zscore or "session"


#: Protocols by the setting ``protocol``.
PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "published": Protocol(
        lambda images, fraction: last_trials_holdout(len(images), fraction),
        training_only=False,
        joint_step=False,
        zscore="session",
        zscore_on=None,
        text="as in the paper: responses are z-scored over all trials of a session, those of validation images "
        "included, and the holdout is the last part of the training trials, which can repeat training images",
    ),
    "strict": Protocol(
        image_holdout,
        training_only=True,
        joint_step=True,
        zscore=False,
        zscore_on=zscore_on,
        text="leak-free: images are held out with all their trials, and every statistic is fitted on training trials "
        "only; the paper's figures come from the published protocol",
    ),
}
