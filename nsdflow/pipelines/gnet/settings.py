"""Settings of a pipeline of kind ``gnet``, and of all pipelines that train readouts by gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from nsdflow.config.base import Frozen
from nsdflow.config.pipeline import LocalFile, ModelPipeline, RoiGroups
from nsdflow.models.prefilters import PREFILTERS

__all__ = ["GNetPipeline", "TrainSection", "TrainedPipeline"]


def _known(name: str) -> str:
    if name not in PREFILTERS:
        raise ValueError(f"must be one of {', '.join(PREFILTERS)}")
    return name


#: A prefilter of the table.
PrefilterName = Annotated[str, AfterValidator(_known)]


class TrainSection(Frozen):
    """Section ``train`` of a pipeline: optimisation of a GNet. The documentation of GNet has the formulas."""

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(100, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    holdout_fraction: float = Field(0.1, gt=0, lt=1)
    """Share of training trials held out to choose the best epoch: the last ones in trial order (published)."""
    dropout: float = Field(0.5, ge=0, lt=1)
    weight_penalty: float = Field(0.1, ge=0)
    """Factor of the sum of absolute readout weights in the loss."""
    prefilter_cache: Literal["auto", "none", "half", "full"] = "auto"
    """How to cache the frozen prefilter's output of every image: ``half`` in float16, ``full`` in float32. ``none``
    computes it once per batch. ``auto`` is half on a GPU where that fits (unless precision is float32), else none."""
    kernels: Literal["auto", "plain", "compiled"] = "auto"
    """How readout and trunk compute between their matrix products. ``compiled`` uses ``torch.compile`` and gives the
    same result within rounding. ``auto`` is compiled on a GPU where that works, else plain."""


class TrainedPipeline(ModelPipeline):
    """Settings of every pipeline that trains readouts by gradient descent."""

    precision: Literal["float32", "tf32", "bfloat16"] | None = None
    """Precision of the arithmetic; float32 on a CPU and tf32 on a GPU (as the published run) if null."""
    train: TrainSection = TrainSection()


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
