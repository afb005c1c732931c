"""Settings of pipelines that predict voxels from the categories of objects."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nsdflow.config.pipeline import RidgeGrid
from nsdflow.pipelines.features.settings import ANNOTATION_FEATURES
from nsdflow.pipelines.ridge.settings import RidgePipeline

__all__ = ["SemanticPipeline"]


class SemanticPipeline(RidgeGrid):
    """Ridge of voxels on the categories of the images, with one lambda per voxel."""

    kind: Literal["semantic"] = "semantic"
    space: Literal["area", "categories", "instances", "supercategories"] = "area"
    """Feature of each category: the share of the image that it covers, whether the image shows it, the logarithm of one
    more than the number of instances; or whether the image shows any category of a supercategory."""
    lambda_max: float = Field(1e6, gt=0)
    lambdas: int = Field(13, ge=1)
    voxels_per_task: int = Field(16_384, ge=1)
    """Voxels per task."""

    def reads_annotations(self) -> bool:
        return True

    def as_ridge(self) -> RidgePipeline:
        """The settings of the fit; lambda is chosen by leaving out each image in turn."""
        shared = {name: getattr(self, name) for name in (*RidgeGrid.model_fields, "voxels_per_task") if name != "kind"}
        return RidgePipeline(features=ANNOTATION_FEATURES, layers=(self.space,), lambda_by="loo", **shared)
