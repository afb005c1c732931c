"""Settings of a pipeline of kind ``predict``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from nsdflow.config.base import expand
from nsdflow.config.pipeline import PipelineBase, Subjects

__all__ = ["PredictPipeline"]


def _images(value: str) -> str:
    return value if value in ("subject", "all") else expand(value)


class PredictPipeline(PipelineBase):
    """Predictions (image, voxel) of a finished run for any images, written block by block."""

    kind: Literal["predict"] = "predict"
    model: str = "gnet8j"
    """The run that predicts, of kind gnet, fwrf, fpf, ridge or banded_ridge: its name among the runs, or a path."""
    images: Annotated[str, AfterValidator(_images)] = Field("subject", min_length=1)
    """``subject``: all images of each subject's list if the store holds them, otherwise those that the subject saw.
    ``all``: all images of the store. Otherwise a folder of PNG or JPEG files."""
    subjects: Subjects = "all"
    images_per_task: int = Field(500, ge=1)
    """Images per task, and rows per file of the result."""
    batch_size: int = Field(100, ge=1)
    """Images per call of the network."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _whole_batches(self) -> PredictPipeline:
        if self.images_per_task % self.batch_size:
            raise ValueError(
                f"images_per_task ({self.images_per_task}) must be a multiple of batch_size ({self.batch_size}), "
                "so that predictions do not depend on how images are split"
            )
        return self

    def earlier_runs(self) -> tuple[str, ...]:
        return (self.model,)

    def takes_new_files(self) -> bool:
        return True

    def input_files(self) -> Mapping[str, Sequence[str]]:
        folder = Path(self.images)
        if self.images in ("subject", "all") or not folder.is_dir():
            return {}
        from nsdflow.nsd.pictures import list_pictures  # loads the decoders of pictures

        return {self.images: [str(folder / name) for name in list_pictures(folder)]}
