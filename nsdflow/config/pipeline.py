"""Pipelines: one validated record for each kind of ``pipelines/*.yaml``.

Everything that can change a number stands here and is saved with the result; where things are and how they are cut
into chunks stands in :mod:`nsdflow.config.storage`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, model_validator

from nsdflow.config.base import Frozen
from nsdflow.config.storage import Layout
from nsdflow.errors import ConfigError
from nsdflow.names import ROI_GROUPS, parse_subjects

__all__ = [
    "FpfPipeline",
    "FwrfPipeline",
    "GNetPipeline",
    "Pipeline",
    "PipelineBase",
    "PredictPipeline",
    "SequencePipeline",
    "Step",
    "SyntheticDataPipeline",
    "SyntheticDataset",
    "TablesPipeline",
    "TrainSettings",
    "TransferPipeline",
    "TuningPipeline",
]


def _subjects(value: Any) -> Any:
    if value == "all":
        return value
    try:
        return parse_subjects([value] if isinstance(value, int) else value)
    except (ConfigError, TypeError):
        raise ValueError("neither all nor subjects such as [1, 2] or subj01") from None


def _roi_groups(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for name in value or ():
        if name not in ROI_GROUPS:
            raise ValueError(f"{name!r} is not an ROI group; there are: {', '.join(ROI_GROUPS)}")
    return value


Subjects = Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(_subjects)]
RoiGroups = Annotated[tuple[str, ...] | None, AfterValidator(_roi_groups)]


class PipelineBase(Frozen):
    """What every pipeline says about itself."""

    kind: str
    """What the pipeline does; decides which settings it has."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the run folder."""
    description: str = ""
    seed: int = Field(0, ge=0)
    """The same seed gives the same bits on a CPU with the same number of ``threads``."""


class ModelPipeline(PipelineBase):
    """What every pipeline that fits an encoding model to responses says."""

    protocol: Literal["published", "strict"] = "published"
    """``published`` as in the paper; ``strict`` splits by image and fits every statistic on training trials."""
    subjects: Subjects = "all"
    """``all`` or a list such as ``[1, 2]``."""
    rois: tuple[str, ...] | None = None
    """Voxels to model, as ROI names or groups; all voxels of the store if null."""
    shuffle_images: bool = False
    """Control: deal the images out to other trials, so that nothing can be learned."""
    bootstrap: int = Field(64, ge=0)
    """Resamples of validation trials for ``accuracy_std``; 0 for none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)
    """Threads of a task on the CPU; all of the worker's share if null."""


class TrainSettings(Frozen):
    """Optimisation of a GNet (section "GNet" of the documentation has the formulas)."""

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(100, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    holdout_fraction: float = Field(0.1, gt=0, lt=1)
    """Share of training trials kept to choose the best epoch: the last ones in trial order (published)."""
    dropout: float = Field(0.5, ge=0, lt=1)
    weight_penalty: float = Field(0.1, ge=0)
    """Factor of the sum of absolute readout weights in the loss."""
    prefilter_cache: Literal["auto", "none", "half", "full"] = "auto"
    """Keep the frozen prefilter's output of every image: ``half`` in float16, ``full`` in float32; ``none`` computes it
    once a batch; ``auto`` is half on a GPU (unless precision is float32) where that fits, none on a CPU."""
    kernels: Literal["auto", "plain", "compiled"] = "auto"
    """How readout and trunk compute between their matrix products: ``compiled`` by ``torch.compile``, the same but for
    rounding; ``auto`` is compiled on a GPU where that works, else plain."""


class TrainedPipeline(ModelPipeline):
    """What every pipeline that trains readouts by gradient descent says."""

    precision: Literal["float32", "tf32", "bfloat16"] | None = None
    """Arithmetic; float32 on the CPU and tf32 on the GPU (as the published run) if null."""
    train: TrainSettings = TrainSettings()


class GNetPipeline(TrainedPipeline):
    """A convolutional trunk shared by subjects and a pooling-field readout a voxel, trained together."""

    kind: Literal["gnet"] = "gnet"
    roi_groups: RoiGroups = None
    """One trunk for each of these ROI groups (GNet8r); a single joint trunk if null (GNet8j)."""
    prefilter: Literal["alexnet", "gabor"] = "alexnet"
    """First two layers: AlexNet's, or seeded Gabor filters that need no download."""
    prefilter_weights: str | None = None
    """File with AlexNet's published weights; fetched and checked against its hash if null."""
    train_prefilter: bool = False
    """Train the first two layers too (GNet8jft)."""
    width: int = Field(64, ge=1)
    """Channels of the trunk (t); the published one has 64."""
    processes: int = Field(1, ge=1)
    """GPUs that share each batch of a trunk's training; the result is that of one within rounding."""

    @model_validator(mode="after")
    def _trained_is_not_cached(self) -> GNetPipeline:
        if self.train_prefilter and self.train.prefilter_cache in ("half", "full"):
            raise ValueError(
                f"train_prefilter and train.prefilter_cache={self.train.prefilter_cache} exclude each other; "
                "what is trained cannot be kept: write train.prefilter_cache=none"
            )
        return self


class TransferPipeline(TrainedPipeline):
    """New readouts for all voxels on the frozen trunk of each ROI of a GNet8r run."""

    kind: Literal["transfer"] = "transfer"
    trunks: str = "gnet8r"
    """The run that trained the trunks: its name among the runs, or a path."""
    trunk_rois: tuple[str, ...] = ("V1", "V2", "V3", "hV4")
    """Which trunks, from the lowest area of the supposed hierarchy to the highest."""
    frozen_trunk: Literal["train", "eval"] = "train"
    """Mode of the trunk: ``train`` as published (dropout, batch statistics), ``eval`` as one would expect."""


class FpfPipeline(TrainedPipeline):
    """The flexible pooling readout of GNet on the feature maps of a frozen AlexNet."""

    kind: Literal["fpf"] = "fpf"
    feature_weights: str | None = None
    """File with AlexNet's published weights; fetched and checked against its hash if null."""
    layers: tuple[Literal["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"], ...] = Field(
        ("conv1", "conv2", "conv3", "conv4", "conv5"), min_length=1
    )
    """Which of its layers, from the first to the last."""
    max_features_per_layer: int = Field(512, ge=1)
    """Of a layer with more channels, those that vary most over images."""


class CandidateGrid(Frozen):
    """Grid of receptive-field candidates: log-spaced sizes, positions spaced by size."""

    sizes: int = Field(8, ge=1)
    smallest: float = Field(0.03, gt=0)
    largest: float = Field(0.4, gt=0)
    spacing: float = Field(1.0, gt=0)
    """Distance of centres in units of the size."""


class FwrfPipeline(ModelPipeline):
    """Feature-weighted receptive fields: ridge on pooled feature maps, the best pooling field a voxel."""

    kind: Literal["fwrf"] = "fwrf"
    features: Literal["alexnet", "gabor"] = "alexnet"
    feature_weights: str | None = None
    """File with AlexNet's published weights; fetched and checked against its hash if null."""
    max_features_per_layer: int = Field(512, ge=1)
    candidates: CandidateGrid = CandidateGrid()
    lambda_min: float = Field(1e3, gt=0)
    lambda_max: float = Field(1e6, gt=0)
    lambdas: int = Field(9, ge=1)
    """Number of ridge parameters, log-spaced from lambda_min to lambda_max."""
    zscore: bool = True
    bias: bool = True
    nonlinearity: Literal["none", "log"] = "none"
    """Applied to pooled features; log is ``log(1 + |x|)``."""
    holdout_fraction: float = Field(0.1, gt=0, lt=1)
    candidates_per_task: int = Field(700, ge=1)
    """Size of the blocks in which candidates are searched; each is a task of its own."""

    @model_validator(mode="after")
    def _ordered(self) -> FwrfPipeline:
        if self.lambda_min > self.lambda_max:
            raise ValueError(f"lambda_min {self.lambda_min:g} is larger than lambda_max {self.lambda_max:g}")
        return self


class PredictPipeline(PipelineBase):
    """Predictions of a finished run for any images, image by voxel, without ever holding them in memory."""

    kind: Literal["predict"] = "predict"
    model: str = "gnet8j"
    """The run that predicts, of kind gnet, fwrf or fpf: its name among the runs, or a path."""
    images: str = Field("subject", min_length=1)
    """``subject``: those of the store that each subject saw; ``all`` of the store; or a folder of PNG or JPEG files."""
    subjects: Subjects = "all"
    images_per_task: int = Field(500, ge=1)
    """Images of a task, which are the rows of a file of the result."""
    batch_size: int = Field(100, ge=1)
    """Images that pass the network at once."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _whole_batches(self) -> PredictPipeline:
        if self.images_per_task % self.batch_size:
            raise ValueError(
                f"images_per_task {self.images_per_task} is not a multiple of batch_size {self.batch_size}; "
                "then the last bits of a prediction depend on neither"
            )
        return self


class TuningPipeline(PipelineBase):
    """What each layer of a finished GNet run contributes to each voxel, and where the voxel looks."""

    kind: Literal["tuning"] = "tuning"
    model: str = "gnet8j"
    """The run to analyse: its name among the runs, or a path."""
    subjects: Subjects = "all"
    bootstrap: int = Field(64, ge=2)
    """Resamples of validation trials; every accuracy is their mean."""
    threshold: float = Field(0.055, ge=0, lt=1)
    """ROI summaries take voxels of more than this accuracy."""
    batch_size: int = Field(100, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)


class SyntheticDataset(Frozen):
    """One set of synthetic responses, which becomes a store."""

    repeats: int = Field(3, ge=1)
    """Presentations of every image; each is a session of its own that shows all images once."""
    noise: bool = True
    """Whether noise with the correlations of the measured noise is added, drawn anew for each presentation."""


class SyntheticDataPipeline(PipelineBase):
    """Synthetic responses whose signal is what a finished run predicts, as stores that pipelines run on."""

    kind: Literal["synthetic_data"] = "synthetic_data"
    predictions: str = "predict"
    """The predict run that is the signal: its name among the runs, or a path."""
    subjects: Subjects = "all"
    datasets: dict[str, SyntheticDataset] = Field(
        default_factory=lambda: {
            "noiseless": SyntheticDataset(repeats=1, noise=False),
            "noise": SyntheticDataset(repeats=3, noise=True),
        },
        min_length=1,
    )
    """Each becomes the store ``NAME.zarr`` in the run folder."""
    layout: Layout = Layout()
    """How the stores are cut into chunks and files."""

    @model_validator(mode="after")
    def _file_names(self) -> SyntheticDataPipeline:
        for name in self.datasets:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"datasets: {name!r} names a folder; write letters, digits, - and _ only")
        return self


class TablesPipeline(PipelineBase):
    """The paper's tables from finished runs."""

    kind: Literal["tables"] = "tables"
    models: tuple[str, ...] = ("gabor_fwrf", "alexnet_fpf", "alexnet_fwrf", "gnet8j", "gnet8r", "gnet8jft")
    """Runs that fill the columns of the pipelines they are called after; a run that is not there leaves NaN."""
    transfers: dict[str, str] = Field(default_factory=lambda: {"Experimental": "transfer"})
    """Transfer runs by the name of the set of responses they were found on."""


class Step(Frozen):
    """One pipeline of a sequence, with settings that differ from its file."""

    pipeline: str
    set: dict[str, Any] = Field(default_factory=dict)
    store: str | None = None
    """Store that an earlier step wrote, ``RUN/NAME.zarr`` among the runs; the one the sequence runs on if null."""


class SequencePipeline(PipelineBase):
    """Pipelines run one after the other, in the order of their inputs."""

    kind: Literal["sequence"] = "sequence"
    steps: tuple[Step, ...] = Field(min_length=1)


Pipeline = Annotated[
    GNetPipeline
    | TransferPipeline
    | FpfPipeline
    | FwrfPipeline
    | PredictPipeline
    | SyntheticDataPipeline
    | TuningPipeline
    | TablesPipeline
    | SequencePipeline,
    Field(discriminator="kind"),
]

#: Parses any pipeline by its ``kind``.
PIPELINE: TypeAdapter[Pipeline] = TypeAdapter(Pipeline)
