"""Results of runs: a labelled tree, in few files, that is there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import warnings
from math import prod
from typing import Final
from uuid import uuid4

import xarray as xr
from zarr.errors import UnstableSpecificationWarning

from nsdflow.errors import MissingDataError
from nsdflow.store.files import is_local, local_path, writing

__all__ = ["RESULTS", "open_run", "write_results"]

#: Name of the tree in the folder of a run.
RESULTS: Final = "results.zarr"
#: Larger arrays are cut along their first axis.
CHUNK_BYTES: Final = 64 << 20


def write_results(run: str | os.PathLike[str], tree: xr.DataTree) -> None:
    """Write the results of a run in place of earlier ones.

    The tree is written aside and renamed, so a reader meets the old results or the new ones.

    Parameters
    ----------
    run : path
        Folder of the run.
    tree : xr.DataTree
        ``/subj01`` ... with voxel coordinates, ``/history`` and whatever the kind of run adds.
    """
    target = local_path(run) / RESULTS
    aside = target.with_name(f".{RESULTS}.{uuid4().hex[:8]}")
    encoding = {
        node.path: {
            str(name): {"chunks": _chunk_shape(variable)}
            for name, variable in node.dataset.variables.items()
            if variable.size
        }
        for node in tree.subtree
    }
    with writing(target), warnings.catch_warnings():
        # fixed-length strings and consolidated metadata are extensions of Zarr v3 that zarr and xarray agree on
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        warnings.filterwarnings("ignore", "Consolidated metadata")
        try:
            tree.to_zarr(
                aside, mode="w", zarr_format=3, consolidated=True, encoding=encoding, write_inherited_coords=False
            )
            if target.exists():
                old = target.with_name(f".{RESULTS}.{uuid4().hex[:8]}")
                target.rename(old)
                aside.rename(target)
                shutil.rmtree(old)
            else:
                aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def open_run(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open the results of a run; values are read when they are used.

    Parameters
    ----------
    path : path or URL
        Folder of the run.

    Raises
    ------
    MissingDataError
        There is no such run, or it has no results yet.
    """
    run = str(local_path(path)) if is_local(str(path)) else str(path).rstrip("/")
    if is_local(run) and not local_path(f"{run}/{RESULTS}").is_dir():
        reason = (
            "has no results yet; `nsdflow status` says how far it is" if local_path(run).is_dir() else "no such run"
        )
        raise MissingDataError(f"{run}: {reason}")
    return xr.open_datatree(f"{run}/{RESULTS}", engine="zarr", chunks=None, consolidated=True)


def _chunk_shape(variable: xr.Variable) -> tuple[int, ...]:
    """The whole variable, or as many of its first rows as fit."""
    if variable.ndim == 0:
        return ()
    row = max(1, prod(variable.shape[1:]) * variable.dtype.itemsize)
    return (max(1, min(variable.shape[0], CHUNK_BYTES // row)), *variable.shape[1:])
