"""Splits of trials into training, holdout and validation: the published split and a leak-free one.

Published: trials of shared images are validation trials, and all others are training trials. The holdout is the last
part of the training trials in trial order. The repeats of an image can therefore fall on both sides of the split.

Strict: a hash of the image number assigns all trials of an image to the holdout or to the training set. The split does
not depend on the order of trials, the subject or a random number generator.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["average_trials", "image_holdout", "last_trials_holdout"]


def average_trials(
    images: NDArray[np.int64], betas: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Average the betas of each image over its trials.

    Parameters
    ----------
    images : numpy.ndarray
        (trial,) int64, image number of each trial.
    betas : numpy.ndarray
        (trial, voxel) betas.

    Returns
    -------
    images : numpy.ndarray
        (image,) image numbers in ascending order.
    betas : numpy.ndarray
        (image, voxel) mean betas.
    """
    unique, image_of_trial = np.unique(images, return_inverse=True)
    order = np.argsort(image_of_trial, kind="stable")
    first = np.searchsorted(image_of_trial[order], np.arange(len(unique)))
    total = np.add.reduceat(betas[order], first, axis=0)
    return unique, total / np.bincount(image_of_trial)[:, None].astype(betas.dtype)


def last_trials_holdout(trials: int, fraction: float) -> NDArray[np.bool_]:
    """Mark the published holdout (trial,): the last ceil(fraction * trials) training trials, in trial order."""
    holdout = np.zeros(trials, dtype=bool)
    holdout[trials - math.ceil(fraction * trials) :] = True
    return holdout


def image_holdout(nsd_id: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Mark the strict holdout (trial,): all trials of images whose hash falls below ``fraction``.

    An image is in the holdout if BLAKE2b("nsdflow:<nsd_id>") / 2^64 is less than ``fraction``. The result is the same
    for every subject, run and version.
    """
    unique, image_of_trial = np.unique(np.asarray(nsd_id, dtype=np.int64), return_inverse=True)
    draws = np.array([_uniform(int(image)) for image in unique])
    return np.asarray((draws < fraction)[image_of_trial])


def _uniform(image: int) -> float:
    digest = hashlib.blake2b(f"nsdflow:{image}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
