"""Stores: Zarr on disk, lazy labelled xarray in Python."""

from nsdflow.store.accessor import NsdAccessor
from nsdflow.store.queries import Explanation, Store, open_store

__all__ = ["Explanation", "NsdAccessor", "Store", "open_store"]
