"""Z-scores of responses whose statistics come from some of the trials."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nsdflow.names import ZSCORE_EPSILON

__all__ = ["zscore_on"]


def zscore_on(
    responses: NDArray[np.float32], session: NDArray[np.int64], fitted_on: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Z-score each session with the mean and std (ddof 0, + 1e-6) of some of its trials; NaN becomes 0.

    ``fitted_on`` (trial,) marks the trials that enter the statistics: the training trials of the strict protocol.
    """
    scored = np.zeros_like(responses)
    for number in np.unique(session):
        here = session == number
        seen = responses[here & fitted_on].astype(np.float64)
        if len(seen) == 0:
            continue
        values = (responses[here] - seen.mean(axis=0)) / (seen.std(axis=0) + ZSCORE_EPSILON)
        scored[here] = np.nan_to_num(values, nan=0.0)
    return scored
