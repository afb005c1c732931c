"""Settings of a pipeline of kind ``synthetic_data``."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from nsdflow.config.base import Frozen
from nsdflow.config.pipeline import PipelineBase, Subjects
from nsdflow.config.storage import Layout

__all__ = ["SyntheticDataPipeline", "SyntheticDataset"]


class SyntheticDataset(Frozen):
    """One set of synthetic responses, which becomes a store."""

    repeats: int = Field(3, ge=1)
    """Consecutive presentations per image."""
    noise: bool = True
    """Whether to add noise with the correlations of the measured noise, drawn independently for each presentation."""


class SyntheticDataPipeline(PipelineBase):
    """Synthetic responses to the signal of a finished run, as stores that pipelines run on."""

    kind: Literal["synthetic_data"] = "synthetic_data"
    predictions: str = "predict"
    """The predict run with the signal: its name among the runs, or a path."""
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
    """Chunks and shards of the stores."""

    @model_validator(mode="after")
    def _file_names(self) -> SyntheticDataPipeline:
        for name in self.datasets:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"datasets: {name!r} names a folder; write letters, digits, - and _ only")
        return self

    def earlier_runs(self) -> tuple[str, ...]:
        return (self.predictions,)
