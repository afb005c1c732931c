"""Base classes of pipeline settings: the settings that ``pipelines/*.yaml`` of all kinds share.

The settings of a kind are defined with its planner in :mod:`nsdflow.pipelines`; :mod:`nsdflow.pipelines.kinds` lists
them. Everything that can change a number is a setting and is saved with the result. Settings of
:mod:`nsdflow.config.storage` say where data are and how they are chunked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nsdflow.config.base import Frozen, expand
from nsdflow.errors import ConfigError
from nsdflow.names import ROI_GROUPS, parse_sessions, parse_subjects

__all__ = ["LocalFile", "ModelPipeline", "PipelineBase", "RidgeGrid", "RoiGroups", "Sessions", "Subjects"]


def _subjects(value: Any) -> Any:
    if value == "all":
        return value
    try:
        return parse_subjects([value] if isinstance(value, int) else value)
    except (ConfigError, TypeError):
        raise ValueError("neither all nor subjects such as [1, 2] or subj01") from None


def _sessions(value: Any) -> Any:
    try:
        return None if value is None else parse_sessions(value)
    except (ConfigError, TypeError):
        raise ValueError("neither sessions such as 1-37 nor a list of numbers") from None


def _roi_groups(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for name in value or ():
        if name not in ROI_GROUPS:
            raise ValueError(f"{name!r} is not an ROI group; available: {', '.join(ROI_GROUPS)}")
    return value


def _file(value: str | None) -> str | None:
    return value if value in (None, "random") else expand(str(value))


Subjects = Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(_subjects)]
#: Numbers of sessions; text such as ``1-37`` is a range of them.
Sessions = Annotated[tuple[int, ...] | None, BeforeValidator(_sessions)]
#: A path of a file, or the word ``random``; it is expanded as a path of the command line.
LocalFile = Annotated[str | None, AfterValidator(_file)]
RoiGroups = Annotated[tuple[str, ...] | None, AfterValidator(_roi_groups)]


class PipelineBase(Frozen):
    """Settings that every pipeline has."""

    kind: str
    """Kind of the pipeline, which decides its other settings."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the run folder."""
    description: str = ""
    seed: int = Field(0, ge=0)
    """Seed of all random numbers. The same seed and number of ``threads`` give the same bits on a CPU."""

    def earlier_runs(self) -> tuple[str, ...]:
        """Names or paths of the runs that must be finished before this pipeline starts."""
        return ()

    def input_runs(self) -> tuple[str, ...]:
        """Names or paths of the runs whose results the pipeline reads; some may be missing."""
        return self.earlier_runs()

    def input_files(self) -> Mapping[str, Sequence[str]]:
        """Local files and folders that the pipeline reads, by the name in its settings; here, weights of networks."""
        named = (getattr(self, setting) for setting in self.pretrained())
        return {str(file): (str(file),) for file in named if file not in (None, "random")}

    def takes_new_files(self) -> bool:
        """Whether tasks run again whose files have changed, so that an unfinished run continues with the new ones."""
        return False

    def reads_annotations(self) -> bool:
        """Whether the pipeline reads the annotations of the store, which can be replaced without ingesting again."""
        return False

    def pretrained(self) -> Mapping[str, str]:
        """Pretrained networks that the pipeline reads, by the setting that may name a local file of their weights."""
        return {}


class ModelPipeline(PipelineBase):
    """Settings of every pipeline that fits an encoding model to responses."""

    protocol: Literal["published", "strict"] = "published"
    """``published`` follows the paper; ``strict`` splits by image and fits every statistic on training trials."""
    subjects: Subjects = "all"
    """``all`` or a list such as ``[1, 2]``."""
    sessions: Sessions = None
    """Sessions whose trials are used, such as ``1-37``, as far as a subject has them; all of the store if null."""
    rois: tuple[str, ...] | None = None
    """ROIs or groups of ROIs whose voxels are modelled; all voxels of the store if null."""
    voxels: str | None = None
    """Voxel set to which ``rois`` are restricted, such as ``evc``: the same voxels on every store that holds them."""
    combine_trial: bool = False
    """Whether to average the trials of each image first; otherwise the fit and the validation use single trials."""
    shuffle_images: bool = False
    """Control: whether to shuffle the images among trials, so that nothing can be learned."""
    bootstrap: int = Field(64, ge=0)
    """Resamples of validation trials for ``accuracy_std``; 0 for none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)
    """CPU threads per task; all threads of the worker if null."""

    def selection(self, *rois: str) -> dict[str, Any]:
        """Arguments of a query for the voxels of the pipeline, restricted to ``rois`` where given."""
        return {"roi": list(rois or self.rois or ()) or None, "voxels": self.voxels}


class RidgeGrid(ModelPipeline):
    """Settings of every pipeline that chooses a ridge parameter from a grid."""

    lambda_min: float = Field(1.0, gt=0)
    lambda_max: float = Field(1e7, gt=0)
    lambdas: int = Field(10, ge=1)
    """Number of ridge parameters, log-spaced from lambda_min to lambda_max."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lambda_min > self.lambda_max:
            raise ValueError(f"lambda_min {self.lambda_min:g} is larger than lambda_max {self.lambda_max:g}")
        return self

    def grid(self) -> tuple[float, ...]:
        """The ridge parameters, ascending."""
        return tuple(np.geomspace(self.lambda_min, self.lambda_max, self.lambdas).tolist())
