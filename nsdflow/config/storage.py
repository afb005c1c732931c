"""Storage profiles: where NSD is, where stores and runs go, and how they are cut. Nothing here changes a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from nsdflow.config.base import Frozen
from nsdflow.names import DEFAULT_SPACE

__all__ = ["Layout", "StorageProfile"]


class Layout(Frozen):
    """How a store is cut: inner chunks serve queries, shards serve file systems."""

    chunk_voxels: int = Field(1024, ge=1)
    """Voxels of an inner chunk; its trials are those of one session."""
    shard_voxels: int | None = Field(None, ge=1)
    """Voxels of a shard (one file); chosen to meet ``file_budget`` if null."""
    file_budget: int = Field(400, ge=1)
    """Files a subject may have."""
    shard_images: int = Field(512, ge=1)
    """Images of a shard."""
    codec: Literal["none", "lz4", "zstd"] = "none"
    """Lossless compression of betas; they are mostly noise: lz4 saves a fifth of the bytes for a third of the speed."""


class StorageProfile(Frozen):
    """One file of ``storage_config/``."""

    description: str = ""
    source: str | None = None
    """NSD as published: a folder or ``s3://natural-scenes-dataset``."""
    source_options: Mapping[str, Any] = {}
    """For the file system of the source alone, such as ``endpoint_url``, ``anon``, ``profile``."""
    store: str = "nsd.zarr"
    runs: str = "runs"
    scratch: str | None = None
    """Fast local folder for workers' temporary files; the system's if null."""
    betas: str | None = None
    """By default the version that NSD recommends in the space."""
    space: str = DEFAULT_SPACE
    voxels: str | None = None
    """By default the usual set of the space."""
    image_size: int = Field(227, ge=32)
    layout: Layout = Layout()
