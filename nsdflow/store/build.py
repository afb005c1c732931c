"""Building a store: groups with all their metadata first, regions after, published under its name when complete.

A store is built in a workspace beside its final place, ``nsd.zarr.building/store``, and renamed when it is verified:
whatever stops a build, nobody ever opens half a store. Each group is created by one process, before anything is
written into its large arrays; afterwards writers fill whole shards and never touch metadata.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from nsdflow.errors import StoreError
from nsdflow.store.files import TEMPORARY, local_path, writing
from nsdflow.store.schema import COORDINATES, FILL_VALUE, SCHEMA, SCHEMA_VERSION, STIMULI, Cut, scale_attributes
from nsdflow.store.shards import CODECS

__all__ = [
    "count_files",
    "create_root",
    "create_stimuli",
    "create_subject",
    "publish",
    "sweep",
    "with_attributes",
    "workspace_of",
]


def workspace_of(store: str | os.PathLike[str]) -> Path:
    """Where a store is built: ``<store>.building``, holding ``store`` and the done-markers of its tasks."""
    path = local_path(store)
    return path.with_name(f"{path.name}.building")


def create_root(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Create the root group, with the schema version and what identifies the store."""
    with writing(folder):
        zarr.create_group(folder, zarr_format=3, attributes={SCHEMA: SCHEMA_VERSION, **attributes})


def with_attributes(table: xr.Dataset) -> xr.Dataset:
    """A table of coordinates with the types, units and meanings of the schema; others keep theirs."""
    known = {name: COORDINATES[str(name)] for name in table.variables if name in COORDINATES}
    typed = {
        name: (
            variable.dims,
            np.asarray(variable.values, known[name].dtype),
            {**variable.attrs, **known[name].attributes()},
        )
        if name in known
        else variable
        for name, variable in table.variables.items()
    }
    return xr.Dataset(coords=typed)


def create_subject(
    folder: Path,
    subject: str,
    *,
    trials: xr.Dataset,
    voxels: xr.Dataset,
    sessions: int,
    dtype: str,
    cut: Cut,
    attributes: Mapping[str, Any],
) -> None:
    """Create the group of a subject: coordinates with their values, betas and statistics without.

    Parameters
    ----------
    folder : Path
        The store; its root group is there.
    trials, voxels : xr.Dataset
        Coordinates of the trials (session after session) and of the voxels, in the order of the store.
    sessions : int
        Sessions, all of the same number of trials.
    dtype : str
        Of the betas: int16 as published for volumes, float32 for fsaverage.
    cut : Cut
        Chunks and shards of the betas.
    attributes : mapping
        Subject, space, version of the betas, shape and affine of the volume, sources.
    """
    group = _create_group(folder, subject, xr.merge([with_attributes(trials), with_attributes(voxels)]), attributes)
    shape = (trials.sizes["trial"], voxels.sizes["voxel"])
    kind = np.dtype(dtype)
    fill = FILL_VALUE if kind.kind == "i" else np.nan
    _create_array(
        group, "betas", shape, kind, cut.chunk, cut.shard, fill, ("trial", "voxel"), scale_attributes(kind), cut.codec
    )
    chunk = (1, cut.statistics_chunk)
    shard = (sessions, -(-shape[1] // chunk[1]) * chunk[1])
    for name, (type_, fill, attrs) in _STATISTICS.items():
        _create_array(
            group, name, (sessions, shape[1]), np.dtype(type_), chunk, shard, fill, ("session", "voxel"), attrs
        )


_STATISTICS: Mapping[str, tuple[str, Any, dict[str, str]]] = {
    "beta_mean": ("float32", np.nan, {"long_name": "mean over the session's trials", "units": "percent signal change"}),
    "beta_std": (
        "float32",
        np.nan,
        {"long_name": "standard deviation (ddof 0) over the session's trials", "units": "percent signal change"},
    ),
    "valid": ("bool", False, {"long_name": "voxel has data in every volume of the session"}),
}


def create_stimuli(folder: Path, images: xr.Dataset, *, size: int, cut: Cut, attributes: Mapping[str, Any]) -> None:
    """Create the group of the images: coordinates with their values, pixels without."""
    group = _create_group(folder, STIMULI, with_attributes(images), attributes)
    _create_array(
        group,
        "images",
        (images.sizes["image"], 3, size, size),
        np.dtype("uint8"),
        (*cut.chunk, size, size),
        (*cut.shard, size, size),
        0,
        ("image", "channel", "y", "x"),
        {"long_name": "image as shown, resized", "channels": "red green blue"},
    )


def _create_group(folder: Path, name: str, coordinates: xr.Dataset, attributes: Mapping[str, Any]) -> zarr.Group:
    """A new group with its coordinates, in place of whatever a killed process left of it."""
    with writing(folder / name):
        shutil.rmtree(folder / name, ignore_errors=True)
        whole = {
            str(key): {"chunks": variable.shape} for key, variable in coordinates.variables.items() if variable.size
        }
        coordinates.assign_attrs(attributes).to_zarr(
            folder, group=name, mode="w-", zarr_format=3, consolidated=False, encoding=whole
        )
        return zarr.open_group(folder / name, mode="r+", zarr_format=3, use_consolidated=False)


def _create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk: tuple[int, ...],
    shard: tuple[int, ...],
    fill: Any,
    dims: tuple[str, ...],
    attributes: Mapping[str, Any],
    codec: str = "none",
) -> None:
    group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunk,
        shards=shard,
        fill_value=fill,
        compressors=CODECS[codec].zarr,
        dimension_names=dims,
        attributes=dict(attributes),
    )


def sweep(folder: Path) -> int:
    """Remove what killed processes left of files they were writing; how many there were."""
    leftovers = [path for path in folder.rglob(f".*{TEMPORARY}") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def count_files(folder: Path) -> int:
    """Files below a folder."""
    return sum(path.is_file() for path in folder.rglob("*"))


def publish(workspace: Path, store: Path, manifest: Mapping[str, Any]) -> None:
    """Give a complete, verified build its name, in one rename, and remove the workspace.

    Raises
    ------
    StoreError
        Something else got the name in the meantime.
    """
    built = workspace / "store"
    with writing(built):
        (built / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        with warnings.catch_warnings():  # consolidated metadata is an agreed extension of Zarr v3
            warnings.filterwarnings("ignore", "Consolidated metadata")
            zarr.consolidate_metadata(built, zarr_format=3)
        if store.exists():
            raise StoreError(f"{store}: exists; delete it or choose another --store (the new build is in {built})")
        built.rename(store)
        shutil.rmtree(workspace)
