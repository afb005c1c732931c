"""Settings of pipelines that regress voxels on several feature spaces at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from nsdflow.config.base import Frozen
from nsdflow.config.pipeline import RidgeGrid
from nsdflow.pipelines.features.settings import ANNOTATION_FEATURES, files_named, runs_named
from nsdflow.pipelines.ridge.settings import RidgePipeline

__all__ = ["Band", "BandedRidgePipeline"]


class Band(Frozen):
    """A feature space."""

    features: str = Field(min_length=1)
    """A run of kind ``features``, a file, or ``annotations``, as in a ridge pipeline."""
    layer: str | None = None
    """Layer, array, or space of the annotations to use, if there are several."""


class BandedRidgePipeline(RidgeGrid):
    """Ridge on several feature spaces together, with one regularisation per space and voxel."""

    kind: Literal["banded_ridge"] = "banded_ridge"
    bands: dict[str, Band] = Field(min_length=1)
    """Feature spaces by name."""
    weighting: Literal["search", "equal"] = "search"
    """``search``: himalaya's random search weights the bands per voxel; ``equal``: one exact ridge on the features of
    all bands together, with one lambda per voxel, as kind ``ridge`` fits one layer."""
    iterations: int = Field(100, ge=1)
    """Number of random weightings of the bands to try, the same for all voxels."""
    folds: int = Field(5, ge=2)
    """Folds of images in which weighting and regularisation are chosen."""
    standardise: bool = True
    refit: bool = False
    """Whether to fit the model again without each band, for its unique variance; otherwise the contribution of the band
    is subtracted from the prediction, which overestimates what is unique where bands are correlated."""
    predictions: bool = False
    """Whether to keep predictions of the validation images by band (band, image, voxel), for variance partitioning."""
    voxels_per_task: int = Field(4096, ge=1)
    features_at_once: int = Field(2048, ge=1)

    def earlier_runs(self) -> tuple[str, ...]:
        return runs_named(*(band.features for band in self.bands.values()))

    def input_files(self) -> Mapping[str, Sequence[str]]:
        return files_named(*(band.features for band in self.bands.values()))

    def takes_new_files(self) -> bool:
        return True

    def reads_annotations(self) -> bool:
        return any(band.features == ANNOTATION_FEATURES for band in self.bands.values())

    def as_ridge(self) -> RidgePipeline:
        """Settings of a ridge with the same lambdas and folds of images."""
        shared = {name: getattr(self, name) for name in (*RidgeGrid.model_fields, "folds") if name != "kind"}
        return RidgePipeline(lambda_by="kfold", **shared)
