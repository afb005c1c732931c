"""Preparation of fwRF candidates: standardise features, weight training rows and form their products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from nsdflow.fit.fwrf.features import CandidateFeatures, candidate_features, standardised
from nsdflow.fit.ridge import Form, RidgeSystem, ridge_system
from nsdflow.models.pooling import CANDIDATE_TILE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nsdflow.fit.fwrf.settings import FwrfSettings
    from nsdflow.fit.fwrf.trials import TrialSums

__all__ = ["Prepared", "chosen_features", "prepare", "weighted_rows"]


class Prepared(NamedTuple):
    """A prepared candidate: mean and std (feature,) of z-scoring, and the ridge system of the training rows."""

    mean: Tensor
    std: Tensor
    system: RidgeSystem


def chosen_features(
    features: CandidateFeatures, candidate: Tensor, at_once: int, rows: Tensor, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Yield index and features (image, feature) of each chosen candidate, pooling each tile once."""
    chosen = set(candidate.tolist())
    for start in range(0, len(features.candidates), CANDIDATE_TILE):
        tile = range(start, min(start + CANDIDATE_TILE, len(features.candidates)))
        if chosen.intersection(tile):
            for index, pooled in candidate_features(features, tile, at_once, rows, device):
                if index in chosen:
                    yield index, pooled


def prepare(pooled: Tensor, trials: TrialSums, settings: FwrfSettings, form: Form) -> tuple[Prepared, Tensor]:
    """Prepare one candidate; also return its standardised features (image, feature [+ 1])."""
    standard = standardised(
        pooled, trials.share, nonlinearity=settings.nonlinearity, zscore=settings.zscore, bias=settings.bias
    )
    train = weighted_rows(standard.values, trials.train, trials.train_count)
    return Prepared(standard.mean, standard.std, ridge_system(train, form)), standard.values


def weighted_rows(values: Tensor, images: Tensor, counts: Tensor) -> Tensor:
    """Select the rows ``images`` of ``values`` (image, feature), times the square root of ``counts`` (row,)."""
    return values[images].mul_(counts.sqrt()[:, None])
