"""One subject's trials as observations of images, and responses of some voxels, averaged by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nsdflow.engine.compute import read_here
from nsdflow.errors import SelectionError
from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.fit.ridge.inputs import Observations
from nsdflow.fit.ridge.selection import make_folds
from nsdflow.fit.split import average_trials
from nsdflow.pipelines.common.data import chosen_sessions, dealt_out, query_of, read_responses, score_on, trials_of
from nsdflow.pipelines.common.evaluation import validation_accuracy

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from nsdflow.config.pipeline import ModelPipeline
    from nsdflow.pipelines.ridge.settings import RidgePipeline
    from nsdflow.store import Store

__all__ = ["TrialSplit", "VoxelBlock", "coordinates_of_voxels", "read_block", "read_split"]


@dataclass(frozen=True)
class TrialSplit:
    """The rows of a fit: trials, or images whose trials are averaged first. They do not depend on voxels."""

    nsd_id: NDArray[np.int64]
    """(row,) image that each row shows."""
    shared: NDArray[np.bool_]
    """(row,) whether a row validates."""
    images: NDArray[np.int64]
    """(image,) ascending ids of the training images: rows of the features."""
    observation: NDArray[np.int64]
    """(training row,) the observation that averages it: rows of one image on one side of the holdout."""
    observations: Observations
    folds: tuple[torch.Tensor, ...]
    """(observation,) bool per fold."""
    session: NDArray[np.int64]
    """(trial,)"""
    fitted_on: NDArray[np.bool_]
    """(trial,) whether the responses of a trial enter the z-score under ``strict``."""
    row: NDArray[np.int64] | None
    """(trial,) the row that averages it, with ``combine_trial``; None where rows are trials."""

    @property
    def shown(self) -> NDArray[np.int64]:
        """(validation image,) ascending ids."""
        return np.unique(self.nsd_id[self.shared])

    @property
    def repetitions(self) -> NDArray[np.int64] | None:
        """(validation row,) number of trials that each row averages; None where rows are trials."""
        return None if self.row is None else np.bincount(self.row)[self.shared]


def read_split(config: RidgePipeline, store: Store, subject: str) -> TrialSplit:
    """Split a subject's trials, or its images with ``combine_trial``, in the order of the subject's list.

    Raises
    ------
    SelectionError
        No trial shows a shared image, or all trials do.
    """
    trials = trials_of(store, subject, chosen_sessions(config, store, subject))
    shared = trials["shared"].values.astype(bool)
    shown = dealt_out(shared, config.seed) if config.shuffle_images else np.arange(len(shared))
    nsd_id = trials["nsd_id"].values.astype(np.int64)[shown]
    if not shared.any() or shared.all():
        raise SelectionError(f"{subject} needs trials of shared images to validate on, and others to train on")
    row, ids, validates = None, nsd_id, shared
    if config.combine_trial:
        _, first, row = np.unique(trials["subject_image"].values[shown], return_index=True, return_inverse=True)
        ids, validates = nsd_id[first], shared[first]
    training = ids[~validates]
    images, image = np.unique(training, return_inverse=True)
    closed = config.lambda_by in ("loo", "gcv", "kfold")
    if closed:
        held = np.zeros(len(training), bool)
    else:
        held = PROTOCOLS[config.protocol].holdout(training, config.holdout_fraction)
    if not closed and (held.all() or not held.any()):
        raise SelectionError(f"{subject}: {int(held.sum())} of {len(held)} training trials held out; use kfold or loo")
    pairs, observation = np.unique(image * 2 + held, return_inverse=True)
    weight = torch.from_numpy(np.bincount(observation))
    observations = Observations.of(len(images), torch.from_numpy(pairs // 2), weight)
    selection = config.problem().selection
    folds = tuple(make_folds(selection, observations)) if closed else (torch.from_numpy(pairs % 2 == 1),)
    session = trials["session"].values.astype(np.int64)
    fitted_on = ~shared & ~np.isin(nsd_id, training[held])
    return TrialSplit(ids, validates, images, observation, observations, folds, session, fitted_on, row)


@dataclass(frozen=True)
class VoxelBlock:
    """Responses of some voxels."""

    Y: torch.Tensor
    """(observation, voxel) float32 means."""
    within: torch.Tensor
    """(voxel,) float64 squared deviations of training rows from these means."""
    validation: NDArray[np.float32]
    """(validation row, voxel)"""
    voxels: xr.Dataset
    attrs: dict[str, Any]

    def evaluate(self, predictions: torch.Tensor, design: TrialSplit, config: ModelPipeline) -> dict[str, xr.DataArray]:
        """Accuracy of predictions (validation image, voxel), its control and error, and the noise ceiling."""
        return validation_accuracy(
            predictions.numpy(),
            design.shown,
            self.validation,
            design.nsd_id[design.shared],
            self.voxels.get("ncsnr"),
            resamples=config.bootstrap,
            seed=config.seed,
            repetitions=design.repetitions,
        )


def coordinates_of_voxels(config: RidgePipeline, store: Store, subject: str) -> xr.Dataset:
    """Coordinates (voxel,) of a subject's voxels. Results have them once, and blocks of voxels do not."""
    lazy = store.responses(subject, **config.selection(), zscore=False)
    return lazy.isel(trial=0, drop=True).coords.to_dataset()


def read_block(config: RidgePipeline, store: Store, subject: str, design: TrialSplit, voxels: slice) -> VoxelBlock:
    """Read some voxels of a subject and average training rows by observation."""
    protocol = PROTOCOLS[config.protocol]
    lazy = read_responses(store, subject, zscore=protocol.zscore, **query_of(config, store, subject)).isel(voxel=voxels)
    values = read_here(lazy)
    responses = score_on(store, protocol, np.ascontiguousarray(values.values), design.session, design.fitted_on)
    if design.row is not None:
        responses = average_trials(design.row, responses)[1].astype(np.float32)
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
        within=within,
        validation=responses[design.shared],
        voxels=values.isel(trial=0, drop=True).coords.to_dataset(),
        attrs={name: value for name, value in values.attrs.items() if name not in ("long_name", "units")},
    )
