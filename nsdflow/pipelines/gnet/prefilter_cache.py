"""Notes of a plan on the cached output of the frozen prefilter, and the memory that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask.utils import format_bytes

from nsdflow.fit.gnet.inputs import CACHE_SHARE
from nsdflow.models.gnet import prefilter_shape

if TYPE_CHECKING:
    from nsdflow.pipelines.gnet.settings import GNetPipeline

__all__ = ["cache_note", "half_bytes", "worker_bytes"]


def half_bytes(images: int, y: int, x: int) -> int:
    """Bytes in float16 of the prefilter's maps of some images of ``y`` by ``x`` pixels."""
    features, *pixels = prefilter_shape(y, x)
    return images * features * pixels[0] * pixels[1] * 2


def worker_bytes(config: GNetPipeline, half: int) -> int:
    """Bytes that the cached maps add to the memory of a worker; ``half`` is their size in float16.

    Maps on a GPU are in the memory of the GPU, and ``auto`` caches nothing on a CPU.
    """
    if config.device == "cuda":
        return 0
    return {"half": half, "full": 2 * half}.get(config.train.prefilter_cache, 0)


def cache_note(config: GNetPipeline, half: int) -> str:
    """Line on the cache below the plan."""
    cache = config.train.prefilter_cache
    if cache == "auto" and not (config.train_prefilter or config.precision == "float32" or config.device == "cpu"):
        return (
            f"prefilter: output kept in float16 ({format_bytes(half)}) on a GPU where that takes at most "
            f"{CACHE_SHARE:.0%} of its free memory; else, and on CPUs, computed once per batch"
        )
    if cache in ("half", "full"):
        kind, size = ("float16", half) if cache == "half" else ("float32", 2 * half)
        return f"prefilter: output of all images kept in {kind} ({format_bytes(size)})"
    return "prefilter: computed once per batch"
