"""Settings of a pipeline of kind ``sequence``, which :mod:`nsdflow.pipelines.run` expands into its steps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nsdflow.config.base import Frozen
from nsdflow.config.pipeline import PipelineBase

__all__ = ["SequencePipeline", "SequenceStep"]


class SequenceStep(Frozen):
    """One pipeline of a sequence, with the settings that differ from its file."""

    pipeline: str
    set: dict[str, Any] = Field(default_factory=dict)
    store: str | None = None
    """Store that an earlier step writes, ``RUN/NAME.zarr`` among the runs; the store of the sequence if null."""


class SequencePipeline(PipelineBase):
    """Pipelines that run one after the other, in the order of their inputs."""

    kind: Literal["sequence"] = "sequence"
    steps: tuple[SequenceStep, ...] = Field(min_length=1)
