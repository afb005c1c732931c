"""Settings of a pipeline of kind ``features``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nsdflow.config.pipeline import Subjects  # a field of settings
from nsdflow.pipelines.common.networks import NetworkPipeline

__all__ = ["ANNOTATION_FEATURES", "FeaturesPipeline", "files_named", "runs_named"]

#: Name of the store's annotations where features are named.
ANNOTATION_FEATURES = "annotations"


def runs_named(*features: str) -> tuple[str, ...]:
    """Names or paths of runs among names of features, which may also be files or the store's annotations."""
    runs = (name for name in features if name != ANNOTATION_FEATURES and "." not in name.rpartition("/")[2])
    return tuple(dict.fromkeys(runs))


def files_named(*features: str) -> dict[str, tuple[str, ...]]:
    """Files among names of features, each with the file beside it that says the images of its rows."""
    other = (*runs_named(*features), ANNOTATION_FEATURES)
    return {name: (name, f"{name.removesuffix('.npy')}.nsd_id.npy") for name in features if name not in other}


def _spatial(value: str) -> str:
    if value not in ("keep", "mean", "max") and not re.fullmatch(r"grid\([1-9]\d*\)", value):
        raise ValueError(f"{value!r} is no reduction of maps; write keep, mean, max or grid(4)")
    return value


def _projection(value: str) -> str:
    if value != "none" and not re.fullmatch(r"(pca\([1-9]\d*\)|sparse_random\([1-9]\d*(, *\d+)?\))", value):
        raise ValueError(f"{value!r} is no projection; write none, pca(500), or sparse_random(5000, 1) with a seed")
    return value


class FeaturesPipeline(NetworkPipeline):
    """Features of images by the layers of any network."""

    kind: Literal["features"] = "features"
    layers: tuple[str, ...] | None = None
    """Layers to keep; all if null."""
    spatial: Annotated[str, AfterValidator(_spatial)] = "keep"
    """Reduction of maps: ``keep`` every position, ``mean``, ``max``, or means over the cells of a grid: ``grid(4)``."""
    tokens: Literal["cls", "mean", "keep"] = "keep"
    """Reduction of tokens: the first one, their mean, or all."""
    projection: Annotated[str, AfterValidator(_projection)] = "none"
    """``sparse_random(n)`` or ``sparse_random(n, seed)``: n random combinations; ``pca(n)``: n principal components of
    images that no subject is validated on."""
    pca_images: int = Field(2000, ge=2)
    """Largest number of images that a PCA is fitted on, drawn with the seed."""
    images: Literal["subjects", "all"] = "subjects"
    """``subjects``: images that the subjects saw; ``all``: all images of the store."""
    subjects: Subjects = "all"
    dtype: Literal["float32", "float16"] = "float32"
    images_per_task: int = Field(256, ge=1)
    """Images per task, and rows per file of the result."""
    batch_size: int = Field(32, ge=1)
    """Images per call of the network."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)
