"""One subject's trials as observations of images, and responses of some voxels, averaged by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nsdflow.engine.compute import read_here
from nsdflow.errors import SelectionError
from nsdflow.fit.ridge.inputs import Observations
from nsdflow.fit.ridge.selection import make_folds
from nsdflow.fit.split import image_holdout, last_trials_holdout
from nsdflow.pipelines.common.data import SCORED, dealt_out, zscore_on

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.pipelines.ridge.settings import RidgePipeline
    from nsdflow.store import Store

__all__ = ["VoxelBlock", "TrialSplit", "read_block", "read_split"]


@dataclass(frozen=True)
class TrialSplit:
    """The image that each trial shows, and the use of the trial. It does not depend on voxels."""

    nsd_id: NDArray[np.int64]
    """(trial,)"""
    session: NDArray[np.int64]
    shared: NDArray[np.bool_]
    """(trial,) whether a trial validates."""
    images: NDArray[np.int64]
    """(image,) ascending ids of the training images: rows of the features."""
    observation: NDArray[np.int64]
    """(training trial,) the observation that averages it: trials of one image on one side of the holdout."""
    observations: Observations
    folds: tuple[torch.Tensor, ...]
    """(observation,) bool per fold."""
    fitted_on: NDArray[np.bool_]
    """(trial,) whether the responses of a trial enter the z-score under ``strict``."""

    @property
    def shown(self) -> NDArray[np.int64]:
        """(validation image,) ascending ids."""
        return np.unique(self.nsd_id[self.shared])


def read_split(config: RidgePipeline, store: Store, subject: str) -> TrialSplit:
    """Split a subject's trials.

    Raises
    ------
    SelectionError
        No trial shows a shared image, or all trials do.
    """
    trials = store.trials(subject)
    shared = trials["shared"].values.astype(bool)
    nsd_id = trials["nsd_id"].values.astype(np.int64)
    if config.shuffle_images:
        nsd_id = nsd_id[dealt_out(shared, config.seed)]
    if not shared.any() or shared.all():
        raise SelectionError(f"{subject} needs trials of shared images to validate on, and others to train on")
    training = nsd_id[~shared]
    images, image = np.unique(training, return_inverse=True)
    closed = config.lambda_by in ("loo", "gcv", "kfold")
    published = config.protocol == "published"
    if closed:
        held = np.zeros(len(training), bool)
    elif published:
        held = last_trials_holdout(len(training), config.holdout_fraction)
    else:
        held = image_holdout(training, config.holdout_fraction)
    if not closed and (held.all() or not held.any()):
        raise SelectionError(f"{subject}: {int(held.sum())} of {len(held)} training trials held out; use kfold or loo")
    pairs, observation = np.unique(image * 2 + held, return_inverse=True)
    weight = np.ones(len(pairs)) if config.combine_trial else np.bincount(observation)
    observations = Observations.of(len(images), torch.from_numpy(pairs // 2), torch.from_numpy(weight))
    selection = config.problem().selection
    folds = tuple(make_folds(selection, observations)) if closed else (torch.from_numpy(pairs % 2 == 1),)
    fitted_on = ~shared
    fitted_on[~shared] = ~held
    session = trials["session"].values.astype(np.int64)
    return TrialSplit(nsd_id, session, shared, images, observation, observations, folds, fitted_on)


@dataclass(frozen=True)
class VoxelBlock:
    """Responses of some voxels."""

    Y: torch.Tensor
    """(observation, voxel) float32 means."""
    within: torch.Tensor
    """(voxel,) float64 squared deviations of trials from these means; 0 where trials were averaged first."""
    validation: NDArray[np.float32]
    """(validation trial, voxel)"""
    voxels: xr.Dataset
    attrs: dict[str, Any]


def read_block(config: RidgePipeline, store: Store, subject: str, design: TrialSplit, voxels: slice) -> VoxelBlock:
    """Read some voxels of a subject and average training trials by observation."""
    published = config.protocol == "published"
    score = published and not store.attrs.get(SCORED, False)
    lazy = store.responses(subject, **config.selection(), zscore=score).isel(voxel=voxels)
    values = read_here(lazy)
    responses = np.ascontiguousarray(values.values)
    if not published and not store.attrs.get(SCORED, False):
        responses = zscore_on(responses, design.session, design.fitted_on)
    training = torch.from_numpy(responses[~design.shared])
    count = len(design.observations.image)
    total = torch.zeros(count, training.shape[1], dtype=torch.float64)
    observation = torch.from_numpy(design.observation)
    square = torch.zeros(training.shape[1], dtype=torch.float64)
    for rows in torch.arange(len(training)).split(1024):
        part = training[rows].double()
        total.index_add_(0, observation[rows], part)
        square += part.square().sum(0)
    trials = torch.bincount(observation, minlength=count).double()
    total /= trials[:, None]
    within = (square - trials @ total.square()).clamp(min=0)
    return VoxelBlock(
        Y=total.float(),
        within=torch.zeros_like(within) if config.combine_trial else within,
        validation=responses[design.shared],
        voxels=values.isel(trial=0, drop=True).coords.to_dataset(),
        attrs={name: value for name, value in values.attrs.items() if name not in ("long_name", "units")},
    )
