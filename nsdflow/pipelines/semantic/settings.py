"""Settings of pipelines that predict voxels from the categories of objects."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nsdflow.config.pipeline import ModelPipeline
from nsdflow.pipelines.features.settings import ANNOTATION_FEATURES
from nsdflow.pipelines.ridge.settings import RidgePipeline

__all__ = ["SemanticPipeline"]


class SemanticPipeline(ModelPipeline):
    """Ridge of voxels on the categories of the images, with one lambda per voxel."""

    kind: Literal["semantic"] = "semantic"
    space: Literal["area", "categories", "instances", "supercategories"] = "area"
    """Feature of each category: the share of the image that it covers, whether the image shows it, the logarithm of one
    more than the number of instances; or whether any category of a supercategory is there."""
    lambda_min: float = Field(1.0, gt=0)
    lambda_max: float = Field(1e6, gt=0)
    lambdas: int = Field(13, ge=1)
    """Number of ridge parameters, log-spaced from lambda_min to lambda_max."""
    voxels_per_task: int = Field(16_384, ge=1)
    """Voxels per task."""

    @model_validator(mode="after")
    def _ordered(self) -> SemanticPipeline:
        self.as_ridge()
        return self

    def as_ridge(self) -> RidgePipeline:
        """The settings of the fit; lambda is chosen by leaving out each image in turn."""
        shared = {name: getattr(self, name) for name in ModelPipeline.model_fields if name != "kind"}
        grid = {name: getattr(self, name) for name in ("lambda_min", "lambda_max", "lambdas", "voxels_per_task")}
        return RidgePipeline(features=ANNOTATION_FEATURES, layers=(self.space,), lambda_by="loo", **grid, **shared)
