"""Feature-weighted receptive fields: the best pooling field per voxel, and ridge weights on its features.

For each candidate field, the solver z-scores the pooled features of all images and fits a ridge regression with every
lambda. Each voxel keeps the candidate and lambda with the smallest squared error on holdout trials. ``fit`` runs all
steps in one call. ``search`` (any block of candidates), ``combine`` and ``solve`` are the separate steps, which can
run on several workers::

    trials = sum_trials(images, responses, holdout)
    features = MapFeatures(levels.maps, candidate_grid(log_spaced_sizes()))
    partials = [search(features, trials, settings, block=block) for block in blocks]      # anywhere, in any order
    result = solve(features, trials, settings, combine(partials))

Products are computed in tiles whose shapes depend only on the data. Machines of the same kind therefore give
bit-identical results for any memory budget, block size and number of workers. Losses are summed in float64 and compared
as float32. On ties the first candidate and lambda win, as published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nsdflow.errors import RunError
from nsdflow.fit.fwrf.candidates import Prepared, chosen_features, prepare, weighted_rows
from nsdflow.fit.fwrf.features import CandidateFeatures, candidate_features
from nsdflow.fit.fwrf.memory import VOXEL_TILE, FwrfMemory, FwrfShape, free_memory, plan_memory
from nsdflow.fit.fwrf.results import FwrfResult, Maps, features_of
from nsdflow.fit.fwrf.settings import PUBLISHED, PUBLISHED_LAMBDAS, FwrfSettings
from nsdflow.fit.fwrf.tiles import score, voxel_tiles
from nsdflow.fit.fwrf.trials import TrialSums, sum_trials
from nsdflow.fit.precision import arithmetic
from nsdflow.fit.ridge import Form, cheaper_form, float32_suffices, scorer

__all__ = [
    "PUBLISHED",
    "PUBLISHED_LAMBDAS",
    "FwrfPartial",
    "FwrfSettings",
    "combine",
    "fit",
    "fit_shape",
    "search",
    "solve",
]


@dataclass(frozen=True)
class FwrfPartial:
    """Best of a block of candidates: (voxel,) float32 ``loss``, int64 ``candidate`` and ``lambda_index``."""

    block: range
    loss: Tensor
    candidate: Tensor
    lambda_index: Tensor


def fit(
    maps: Maps,
    images: Tensor,
    responses: Tensor,
    holdout: Tensor,
    candidates: NDArray[np.floating] | None = None,
    settings: FwrfSettings = PUBLISHED,
    *,
    device: torch.device | str = "cpu",
    memory: int | None = None,
) -> FwrfResult:
    """Fit all voxels of one subject.

    Parameters
    ----------
    maps : Levels, sequence of torch.Tensor or numpy.ndarray, or CandidateFeatures
        Feature maps (image, channel, y, x) from :func:`nsdflow.models.networks.levels.fit_levels`, one array per level
        without the origin of the features, or a source of pooled features.
    images : torch.Tensor
        (trial,) int64, row of the maps shown in each trial.
    responses : torch.Tensor
        (trial, voxel) float32, usually z-scored per session.
    holdout : torch.Tensor
        (trial,) bool, trials that select candidate and lambda. See :func:`nsdflow.fit.split.last_trials_holdout`
        (published) and :func:`nsdflow.fit.split.image_holdout` (strict).
    candidates : numpy.ndarray, optional
        (candidate, 3) grid from :func:`nsdflow.models.pooling.candidate_grid`. Required unless ``maps`` has it.
    settings : FwrfSettings
        Settings of the model.
    device : torch.device or str
        Device of the computation.
    memory : int, optional
        Bytes that the fit may take beyond its arguments. Default: most of the free memory. The value does not change
        the result.

    Returns
    -------
    FwrfResult
        The fitted model, on the CPU.

    Raises
    ------
    PlanError
        The memory does not suffice for the smallest blocks.
    RunError
        A voxel has no finite loss.
    """
    features = features_of(maps, candidates)
    trials = sum_trials(images, responses, holdout, statistics=settings.statistics)
    if memory is not None and torch.device(device).type == "cpu":
        memory -= trials.bytes
    planned = _plan(features, trials, settings, device, memory, keep=True)
    kept: dict[int, Prepared] | None = {} if planned.plan.kept else None
    return planned.solve(planned.search(range(len(features.candidates)), kept), kept)


def search(
    features: CandidateFeatures,
    trials: TrialSums,
    settings: FwrfSettings = PUBLISHED,
    *,
    block: range | None = None,
    device: torch.device | str = "cpu",
    memory: int | None = None,
) -> FwrfPartial:
    """Score a block of candidates (None: all) with every lambda on the holdout trials.

    Raises
    ------
    PlanError
        The memory does not suffice for the smallest blocks.
    RunError
        A loss is NaN because features are not finite or a lambda is below their rounding error.
    """
    block = range(len(features.candidates)) if block is None else block
    if not 0 <= block.start < block.stop <= len(features.candidates):
        raise ValueError(f"{block} is not a block of {len(features.candidates)} candidates")
    return _plan(features, trials, settings, device, memory).search(block)


def combine(partials: Sequence[FwrfPartial]) -> FwrfPartial:
    """Combine results of blocks of candidates. The result equals one search over all blocks, in any order.

    Raises
    ------
    ValueError
        Blocks overlap or leave a gap.
    """
    best, *others = sorted(partials, key=lambda partial: partial.block.start)
    for later in others:
        if later.block.start != best.block.stop:
            raise ValueError(f"blocks of candidates do not follow each other: {best.block}, then {later.block}")
        better = later.loss < best.loss
        best = FwrfPartial(
            range(best.block.start, later.block.stop),
            torch.where(better, later.loss, best.loss),
            torch.where(better, later.candidate, best.candidate),
            torch.where(better, later.lambda_index, best.lambda_index),
        )
    return best


def solve(
    features: CandidateFeatures,
    trials: TrialSums,
    settings: FwrfSettings,
    best: FwrfPartial,
    *,
    device: torch.device | str = "cpu",
    memory: int | None = None,
) -> FwrfResult:
    """Fit the weights of the selected candidates on the training trials, with one system per candidate and lambda."""
    return _plan(features, trials, settings, device, memory).solve(best)


@dataclass(frozen=True)
class _PlannedFit:
    """A fit that fits into memory, with its images and trials on the device."""

    features: CandidateFeatures
    rows: Tensor
    """(image,) rows of the shown images in the features."""
    trials: TrialSums
    settings: FwrfSettings
    plan: FwrfMemory
    form: Form
    device: torch.device

    def search(self, block: range, kept: dict[int, Prepared] | None = None) -> FwrfPartial:
        """Score a block of candidates, and add each prepared candidate to ``kept``."""
        trials, plan, parts = self.trials, self.plan, []
        with torch.no_grad(), arithmetic("float32", self.device):
            for first in range(0, trials.voxels, plan.voxels):
                voxels = range(first, min(first + plan.voxels, trials.voxels))
                tiles = voxel_tiles(trials, voxels, VOXEL_TILE, self.device)
                for index, pooled in candidate_features(self.features, block, plan.candidates, self.rows, self.device):
                    prepared, values = prepare(pooled, trials, self.settings, self.form)
                    del pooled  # frees its block before the next block is pooled
                    if kept is not None:
                        kept[index] = prepared
                    held = weighted_rows(values, trials.holdout, trials.holdout_count)
                    score(index, scorer(prepared.system, trials.repeated), held, self.settings.lambdas, tiles)
                parts += [tile.best() for tile in tiles]
        return FwrfPartial(block, *(torch.cat(part) for part in zip(*parts, strict=True)))

    def solve(self, best: FwrfPartial, kept: Mapping[int, Prepared] | None = None) -> FwrfResult:
        """Fit the weights of the winners, which are prepared again if ``kept`` is empty."""
        features, trials = self.features, self.trials
        if bool((best.candidate < 0).any()):
            raise RunError(f"{int((best.candidate < 0).sum())} voxels have no finite loss; are all features finite?")
        weights = torch.zeros(trials.voxels, features.features + 1)
        mean, std = (torch.empty(trials.voxels, features.features) for _ in range(2))
        lambdas = torch.tensor(self.settings.lambdas, dtype=torch.float64)
        with torch.no_grad(), arithmetic("float32", self.device):
            for index, prepared in self._winners(best.candidate, kept or {}):
                won = best.candidate == index
                mean[won], std[won] = prepared.mean.cpu(), prepared.std.cpu()
                for voxels in won.nonzero()[:, 0].split(VOXEL_TILE):
                    responses, strengths = (
                        trials.train_sum[:, voxels].to(self.device),
                        lambdas[best.lambda_index[voxels]],
                    )
                    fitted = prepared.system.weights(responses, strengths.to(self.device))
                    weights[voxels, : len(fitted)] = fitted.T.cpu()
        return FwrfResult(
            rf=torch.as_tensor(features.candidates)[best.candidate],
            lambda_=lambdas[best.lambda_index],
            lambda_index=best.lambda_index,
            candidate=best.candidate,
            holdout_loss=best.loss,
            weights=weights[:, :-1],
            bias=weights[:, -1],
            feature_mean=mean,
            feature_std=std,
            candidates=features.candidates,
            channels=features.channels,
            nonlinearity=self.settings.nonlinearity,
        )

    def _winners(self, candidate: Tensor, kept: Mapping[int, Prepared]) -> Iterator[tuple[int, Prepared]]:
        """Yield index and system of each chosen candidate."""
        if kept:
            yield from ((index, kept[index]) for index in candidate.unique().tolist())
            return
        for index, pooled in chosen_features(self.features, candidate, self.plan.candidates, self.rows, self.device):
            yield index, prepare(pooled, self.trials, self.settings, self.form)[0]


def fit_shape(
    features: CandidateFeatures, trials: TrialSums, settings: FwrfSettings, device: torch.device | str = "cpu"
) -> FwrfShape:
    """Return the sizes of a fit, including the selected form, for the memory plan."""
    device = torch.device(device)
    train, holdout = len(trials.train), len(trials.holdout)
    columns = features.features + settings.bias
    form: Form = settings.form or cheaper_form(
        rows=train,
        features=columns,
        holdout=holdout,
        voxels=trials.voxels,
        lambdas=len(settings.lambdas),
        repeated=len(trials.repeated),
    )
    if form == "primal":
        # the trace of Z'Z is known in advance only for z-scored features, of mean square 1
        trace = columns * float(trials.train_count.sum()) if settings.zscore else math.inf
        form = "primal" if float32_suffices(trace, min(settings.lambdas)) else "primal64"
    return FwrfShape(
        candidates=len(features.candidates),
        images=len(trials.images),
        train=train,
        holdout=holdout,
        features=features.features,
        voxels=trials.voxels,
        form=form,
        image_bytes=features.image_bytes,
        copied=not features.is_on(device),
    )


def _plan(
    features: CandidateFeatures,
    trials: TrialSums,
    settings: FwrfSettings,
    device: torch.device | str,
    memory: int | None,
    *,
    keep: bool = False,
) -> _PlannedFit:
    device = torch.device(device)
    if not trials.voxels or not len(features.candidates) or not features.features:
        raise ValueError(
            f"{trials.voxels} voxels, {len(features.candidates)} candidates and {features.features} features; "
            "a fit needs at least one of each"
        )
    if int(trials.images.max()) >= features.images:
        raise ValueError(f"a trial shows image row {int(trials.images.max())} of {features.images}; rows count from 0")
    shape = fit_shape(features, trials, settings, device)
    plan = plan_memory(shape, free_memory(device) if memory is None else memory, keep=keep)
    rows = trials.images
    if plan.resident:
        features, rows = features.resident(rows, device), torch.arange(len(rows))
    return _PlannedFit(features, rows, trials.rows_on(device), settings, plan, shape.form, device)
