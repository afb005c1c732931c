"""Settings of a pipeline of kind ``gnet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from nsdflow.config.pipeline import LocalFile, RoiGroups, TrainedPipeline
from nsdflow.models.prefilters import PREFILTERS

__all__ = ["GNetPipeline"]


def _known(name: str) -> str:
    if name not in PREFILTERS:
        raise ValueError(f"must be one of {', '.join(PREFILTERS)}")
    return name


#: A prefilter of the table.
PrefilterName = Annotated[str, AfterValidator(_known)]


class GNetPipeline(TrainedPipeline):
    """A convolutional trunk shared by subjects, and a pooling-field readout per voxel, trained together."""

    kind: Literal["gnet"] = "gnet"
    roi_groups: RoiGroups = None
    """ROI groups with one trunk each (GNet8r); a single joint trunk if null (GNet8j)."""
    prefilter: PrefilterName = "alexnet"
    """First two layers: those of AlexNet, or seeded Gabor filters, which need no download."""
    prefilter_weights: LocalFile = None
    """File with AlexNet's published weights; fetched and checked against its hash if null."""
    train_prefilter: bool = False
    """Whether to train the first two layers too (GNet8jft)."""
    width: int = Field(64, ge=1)
    """Channels of the trunk (t); the published trunk has 64."""
    processes: int = Field(1, ge=1)
    """GPUs that share each batch of a trunk's training. The result is that of one GPU within rounding."""

    @model_validator(mode="after")
    def _trained_is_not_cached(self) -> GNetPipeline:
        if self.train_prefilter and self.train.prefilter_cache in ("half", "full"):
            raise ValueError(
                f"train_prefilter and train.prefilter_cache={self.train.prefilter_cache} exclude each other; "
                "what is trained cannot be kept: write train.prefilter_cache=none"
            )
        return self

    def pretrained(self) -> Mapping[str, str]:
        network = PREFILTERS[self.prefilter].network
        return {} if network is None else {"prefilter_weights": network}
