"""Settings of a pipeline of kind ``fwrf``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nsdflow.config.base import Frozen
from nsdflow.config.pipeline import RidgeGrid
from nsdflow.pipelines.common.networks import NetworkPipeline

__all__ = ["CandidateGrid", "FwrfPipeline"]


class CandidateGrid(Frozen):
    """Grid of candidate receptive fields, with log-spaced sizes and positions spaced by size."""

    sizes: int = Field(8, ge=1)
    smallest: float = Field(0.03, gt=0)
    largest: float = Field(0.4, gt=0)
    spacing: float = Field(1.0, gt=0)
    """Distance of centres in units of the size."""


class FwrfPipeline(NetworkPipeline, RidgeGrid):
    """Feature-weighted receptive fields: ridge on pooled feature maps, with the best pooling field per voxel."""

    kind: Literal["fwrf"] = "fwrf"
    max_features_per_layer: int = Field(512, ge=1)
    candidates: CandidateGrid = CandidateGrid()
    lambda_min: float = Field(1e3, gt=0)
    lambda_max: float = Field(1e6, gt=0)
    lambdas: int = Field(9, ge=1)
    zscore: bool = True
    bias: bool = True
    nonlinearity: Literal["none", "log"] = "none"
    """Function applied to pooled features; log is ``log(1 + |x|)``."""
    holdout_fraction: float = Field(0.1, gt=0, lt=1)
    candidates_per_task: int = Field(700, ge=1)
    """Candidates per block. Each block is searched by one task."""
