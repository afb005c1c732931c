"""Storage profiles: locations of NSD, stores and runs, and the chunks of stores. They never change a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from nsdflow.config.base import Frozen, Place
from nsdflow.names import DEFAULT_SPACE

__all__ = ["Layout", "StorageProfile"]


class Layout(Frozen):
    """Chunks and shards of a store: small inner chunks make queries fast, large shards keep files few."""

    chunk_voxels: int = Field(1024, ge=1)
    """Voxels per inner chunk. An inner chunk holds the trials of one session."""
    shard_voxels: int | None = Field(None, ge=1)
    """Voxels per shard (one file). If null, shards have the default size of ``nsdflow/store/shard_sizes.py``, or are as
    large as ``file_budget`` needs."""
    file_budget: int = Field(400, ge=1)
    """Largest number of files per subject."""
    shard_images: int | None = Field(None, ge=1)
    """Images per shard; chosen in the same way if null."""
    codec: Literal["none", "lz4", "zstd"] = "none"
    """Lossless compression. Betas are mostly noise: lz4 saves a fifth of the bytes for a third of the speed."""


class StorageProfile(Frozen):
    """One file of ``storage_config/``."""

    description: str = ""
    source: Place | None = None
    """NSD as published: a folder or ``s3://natural-scenes-dataset``."""
    source_options: Mapping[str, Any] = {}
    """Options for the file system of the source only, such as ``endpoint_url``, ``anon``, ``profile``."""
    store: Place = "nsd.zarr"
    runs: Place = "runs"
    scratch: Place | None = None
    """Fast local folder for temporary files of workers; the folder of the system if null."""
    betas: str | None = None
    """Version of the betas; the one that NSD recommends for the space if null."""
    space: str = DEFAULT_SPACE
    voxels: str | None = None
    """Set of voxels; the usual set of the space if null."""
    image_size: int = Field(227, ge=32)
    layout: Layout = Layout()
