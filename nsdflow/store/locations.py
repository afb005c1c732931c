"""Local folders and URLs as zarr takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from nsdflow.io.paths import is_local, local_path

if TYPE_CHECKING:
    import os

__all__ = ["zarr_store"]


def zarr_store(url: str | os.PathLike[str]) -> LocalStore | str:
    """A ``LocalStore`` for a folder, so that ``::`` in its name does not make a chained URL; other URLs unchanged."""
    return LocalStore(local_path(url)) if is_local(url) else str(url)
