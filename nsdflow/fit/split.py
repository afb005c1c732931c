"""Which trials train, which select, which are held back: the published split, and a leak-free one.

Published: trials of shared images are validation, all others training; the holdout is the last part of the training
trials in trial order, so that an image seen three times can stand on both sides. Strict: an image is in the holdout
or not, with all its trials, by a hash of its number; neither the order of trials, nor the subject, nor a random number
generator matters.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["average_trials", "image_holdout", "last_trials_holdout"]


def average_trials(
    images: NDArray[np.int64], betas: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Mean beta of each image: (trial,) and (trial, voxel) -> (image,) and (image, voxel), in order of image."""
    unique, image_of_trial = np.unique(images, return_inverse=True)
    order = np.argsort(image_of_trial, kind="stable")
    first = np.searchsorted(image_of_trial[order], np.arange(len(unique)))
    total = np.add.reduceat(betas[order], first, axis=0)
    return unique, total / np.bincount(image_of_trial)[:, None].astype(betas.dtype)


def last_trials_holdout(trials: int, fraction: float) -> NDArray[np.bool_]:
    """The published holdout: the last ceil(fraction * trials) training trials, in trial order."""
    holdout = np.zeros(trials, dtype=bool)
    holdout[trials - math.ceil(fraction * trials) :] = True
    return holdout


def image_holdout(nsd_id: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """The strict holdout: trials of the images whose hash falls below ``fraction``.

    An image is in or out in every subject, run and version alike: it is in where BLAKE2b("nsdflow:<nsd_id>") / 2^64
    is less than ``fraction``.
    """
    unique, image_of_trial = np.unique(np.asarray(nsd_id, dtype=np.int64), return_inverse=True)
    draws = np.array([_uniform(int(image)) for image in unique])
    return np.asarray((draws < fraction)[image_of_trial])


def _uniform(image: int) -> float:
    digest = hashlib.blake2b(f"nsdflow:{image}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
