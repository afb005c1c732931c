"""Settings of a pipeline of kind ``fwrf``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from nsdflow.config.base import Frozen
from nsdflow.config.pipeline import LocalFile, ModelPipeline
from nsdflow.pipelines.common.networks import NetworkName, pretrained

__all__ = ["CandidateGrid", "FwrfPipeline"]


class CandidateGrid(Frozen):
    """Grid of candidate receptive fields, with log-spaced sizes and positions spaced by size."""

    sizes: int = Field(8, ge=1)
    smallest: float = Field(0.03, gt=0)
    largest: float = Field(0.4, gt=0)
    spacing: float = Field(1.0, gt=0)
    """Distance of centres in units of the size."""


class FwrfPipeline(ModelPipeline):
    """Feature-weighted receptive fields: ridge on pooled feature maps, with the best pooling field per voxel."""

    kind: Literal["fwrf"] = "fwrf"
    features: NetworkName = "alexnet"
    """Network, as in :data:`nsdflow.models.networks.NETWORKS`."""
    feature_weights: LocalFile = None
    """File with the network's weights, or ``random``; the published ones if null."""
    max_features_per_layer: int = Field(512, ge=1)
    candidates: CandidateGrid = CandidateGrid()
    lambda_min: float = Field(1e3, gt=0)
    lambda_max: float = Field(1e6, gt=0)
    lambdas: int = Field(9, ge=1)
    """Number of ridge parameters, log-spaced from lambda_min to lambda_max."""
    zscore: bool = True
    bias: bool = True
    nonlinearity: Literal["none", "log"] = "none"
    """Function applied to pooled features; log is ``log(1 + |x|)``."""
    holdout_fraction: float = Field(0.1, gt=0, lt=1)
    candidates_per_task: int = Field(700, ge=1)
    """Candidates per block. Each block is searched by one task."""

    @model_validator(mode="after")
    def _ordered(self) -> FwrfPipeline:
        if self.lambda_min > self.lambda_max:
            raise ValueError(f"lambda_min {self.lambda_min:g} is larger than lambda_max {self.lambda_max:g}")
        return self

    def pretrained(self) -> Mapping[str, str]:
        return pretrained(self.features, self.feature_weights)
