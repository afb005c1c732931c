"""Settings of pipelines that regress voxels on features of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from nsdflow.config.pipeline import RidgeGrid
from nsdflow.fit.ridge import LambdaSelection, RidgeProblem
from nsdflow.pipelines.features.settings import ANNOTATION_FEATURES, files_named, runs_named

__all__ = ["RidgePipeline"]


class RidgePipeline(RidgeGrid):
    """Ridge regression of voxels on the features of each layer, with one lambda per voxel."""

    kind: Literal["ridge"] = "ridge"
    features: str = Field("features", min_length=1)
    """A run of kind ``features`` (its name among the runs, or a path), or a file: ``.npy``, ``.npz``,
    ``.zarr`` or ``.nc`` with one row per ``nsd_id``, or ``annotations`` (of the store)."""
    layers: tuple[str, ...] | None = None
    """Layers, arrays, or annotation spaces (categories, area, captions, ...) to fit, each alone; all if null."""
    lambda_by: Literal["holdout", "kfold", "loo", "gcv"] = "holdout"
    """How lambda is chosen: a holdout (by trial order, or by image with ``strict``), folds of images, or leave-one-out
    (of images) and generalised cross-validation in closed form."""
    holdout_fraction: float = Field(0.1, gt=0, lt=1)
    folds: int = Field(5, ge=2)
    intercept: bool = True
    standardise: bool = True
    """Whether to divide features by their standard deviation over training trials."""
    precision: Literal["auto", "float32", "float64"] = "auto"
    """Precision of the system; ``auto`` is float64 where rounding errors are comparable to the smallest lambda."""
    weights: bool = False
    """Whether to write the weights (voxel, feature) of all features to ``weights.zarr`` in the run folder."""
    voxels_per_task: int = Field(16_384, ge=1)
    """Voxels per task. The system is factored once per task, layer and lambda."""
    features_at_once: int = Field(2048, ge=1)
    voxels_at_once: int = Field(2048, ge=1)

    def earlier_runs(self) -> tuple[str, ...]:
        return runs_named(self.features)

    def input_files(self) -> Mapping[str, Sequence[str]]:
        return files_named(self.features)

    def takes_new_files(self) -> bool:
        return True

    def reads_annotations(self) -> bool:
        return self.features == ANNOTATION_FEATURES

    def problem(self) -> RidgeProblem:
        """The fit of one layer."""
        return RidgeProblem(
            lambdas=self.grid(),
            selection=LambdaSelection(self.lambda_by, fraction=self.holdout_fraction, folds=self.folds, seed=self.seed),
            intercept=self.intercept,
            standardise=self.standardise,
            precision=self.precision,
            features_at_once=self.features_at_once,
            voxels_at_once=self.voxels_at_once,
            lambdas_at_once=1,
        )
