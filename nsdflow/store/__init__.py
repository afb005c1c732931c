"""Stores: Zarr on disk, lazy labelled xarray in Python."""

from nsdflow.store.accessor import NsdAccessor
from nsdflow.store.queries import Explanation, Store, open_store
from nsdflow.store.runs import open_run, write_results

__all__ = ["Explanation", "NsdAccessor", "Store", "open_run", "open_store", "write_results"]
