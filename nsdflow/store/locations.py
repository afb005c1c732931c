"""Local folders and URLs as zarr takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from nsdflow.io.paths import is_local, local_path

if TYPE_CHECKING:
    import os

__all__ = ["zarr_store"]


def zarr_store(url: str | os.PathLike[str]) -> LocalStore | str:
    """A folder as a store of its own, so that ``::`` in its name is no chained URL; other URLs as they are."""
    return LocalStore(local_path(url)) if is_local(url) else str(url)
