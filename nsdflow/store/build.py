"""Building a store: first groups with all their metadata, then regions; the store gets its name when complete.

A store is built in a workspace next to its final path, ``nsd.zarr.building/store``, and renamed when it is verified.
Object stores cannot rename: there it is built in place, and the root metadata that make it a store are written last.
A build that stops at any point never leaves an incomplete store under the final name. Each group is created by one
process before anything is written into its large arrays; afterwards writers fill whole shards and never touch metadata.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import numpy as np
import xarray as xr
import zarr
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore

from nsdflow.errors import StoreError
from nsdflow.io import flush
from nsdflow.io.folders import exists, remove, remove_leftovers
from nsdflow.io.paths import is_local, local_path
from nsdflow.io.reach import writing
from nsdflow.io.read import read_bytes
from nsdflow.io.seal import sealed
from nsdflow.io.write import TEMPORARY, atomic_file, put_files
from nsdflow.store.schema import (
    ANNOTATIONS_GROUP,
    COORDINATES,
    FILL_VALUE,
    SCHEMA,
    SCHEMA_VERSION,
    STATISTICS,
    STIMULI_GROUP,
    scale_attributes,
)
from nsdflow.store.shard_format import compressors
from nsdflow.store.shard_sizes import MASK_SHARD_BYTES, Cut

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr.abc.buffer import Buffer, BufferPrototype
    from zarr.abc.store import ByteRequest, Store

__all__ = [
    "Workspace",
    "create_annotations",
    "create_experiment",
    "create_stimuli",
    "create_subject",
    "is_taken",
    "publish_store",
    "workspace_of",
]


#: Bytes of a chunk of the masks' codes; a code has some hundred bytes.
MASK_CHUNK_BYTES: Final = 64 << 10


@dataclass(frozen=True)
class Workspace:
    """The places of one build."""

    store: str
    """Final path or URL of the store."""
    folder: str
    """``<store>.building``, for done-markers and intermediate files; removed after publication."""
    built: str
    """The root of the hierarchy while it is being built."""


def workspace_of(store: str | os.PathLike[str]) -> Workspace:
    """Places of a build."""
    place = str(local_path(store)) if is_local(str(store)) else str(store).rstrip("/")
    folder = f"{place}.building"
    return Workspace(place, folder, f"{folder}/store" if is_local(place) else place)


def is_taken(store: str) -> bool:
    """Whether the name of a store is taken: on a file system by anything, elsewhere by a published store."""
    if is_local(store):
        return exists(store)
    root = f"{store}/zarr.json"
    try:
        return SCHEMA in json.loads(read_bytes(root)).get("attributes", {})
    except FileNotFoundError:
        return False
    except json.JSONDecodeError as error:
        raise StoreError(f"{root}: damaged ({error}); remove it, or choose another store") from None


def create_subject(
    root: str,
    subject: str,
    *,
    trials: xr.Dataset,
    voxels: xr.Dataset,
    sessions: int,
    dtype: str,
    cut: Cut,
    attributes: Mapping[str, Any],
) -> None:
    """Create the group of a subject: coordinates with values, betas and statistics without.

    Parameters
    ----------
    trials, voxels : xr.Dataset
        Coordinates of the trials (session after session) and of the voxels, in the order of the store.
    sessions : int
        Sessions, all of the same number of trials.
    dtype : str
        Of the betas: int16 as published for volumes, float32 for fsaverage.
    attributes : mapping
        Subject, space, version of the betas, shape and affine of the volume, sessions.
    """
    with _new_group(root, subject, _typed(xr.merge([trials, voxels])), attributes) as group:
        _create_responses(group, trials.sizes["trial"], sessions, voxels.sizes["voxel"], dtype, cut)


def create_experiment(
    root: str,
    subject: str,
    experiment: str,
    *,
    trials: xr.Dataset,
    voxels: xr.Dataset,
    dtype: str,
    cut: Cut,
    attributes: Mapping[str, Any],
) -> None:
    """Create the group of a sister experiment in that of a subject: coordinates with their values, arrays without.

    Dimensions except ``voxel`` are called after the experiment (``synthetic_trial``), since a group shares the sizes of
    dimensions with the group that holds it.

    Parameters
    ----------
    trials, voxels : xr.Dataset
        Coordinates of the trials of its one session, and ``flat_index`` of the voxels. Their ``ncsnr`` is an array
        without values: it is measured once the betas are written.
    attributes : mapping
        Subject, experiment, space, version of the betas.
    """
    prefix = f"{experiment}_"
    coordinates = xr.merge([trials.rename(trial=f"{prefix}trial"), voxels])
    with _new_group(f"{root}/{subject}", experiment, _typed(coordinates), attributes) as group:
        size = voxels.sizes["voxel"]
        _create_responses(group, trials.sizes["trial"], 1, size, dtype, cut, prefix)
        _create_array(
            group,
            "ncsnr",
            dims={"voxel": size},
            dtype="float32",
            chunk=(size,),
            shard=(size,),
            fill_value=np.nan,
            attributes=COORDINATES["ncsnr"].attributes(),
        )


def _create_responses(
    group: zarr.Group, trials: int, sessions: int, voxels: int, dtype: str, cut: Cut, prefix: str = ""
) -> None:
    """Betas and statistics, without values; ``prefix`` is that of all dimensions but ``voxel``."""
    kind = np.dtype(dtype)
    _create_array(
        group,
        "betas",
        dims={f"{prefix}trial": trials, "voxel": voxels},
        dtype=dtype,
        chunk=cut.chunk,
        shard=cut.shard,
        fill_value=FILL_VALUE if kind.kind == "i" else np.nan,
        attributes=scale_attributes(kind),
        codec=cut.codec,
    )
    chunk = cut.statistics_chunk
    for name, statistic in STATISTICS.items():
        _create_array(
            group,
            name,
            dims={f"{prefix}session": sessions, "voxel": voxels},
            dtype=statistic.dtype,
            chunk=(1, chunk),
            shard=(sessions, -(-voxels // chunk) * chunk),
            fill_value=statistic.fill_value,
            attributes=statistic.attributes,
        )


def create_annotations(
    root: str, annotations: xr.Dataset, masks: NDArray[np.uint8], attributes: Mapping[str, Any]
) -> None:
    """Create the complete group of the annotations; :mod:`nsdflow.store.annotations` describes it."""
    with _new_group(root, ANNOTATIONS_GROUP, _typed(annotations), attributes) as group:
        if masks.size:
            shards = -(-masks.size // MASK_SHARD_BYTES)
            codes = _create_array(
                group,
                "mask_code",
                dims={"byte": masks.size},
                dtype="uint8",
                chunk=(MASK_CHUNK_BYTES,),
                shard=(-(-masks.size // (shards * MASK_CHUNK_BYTES)) * MASK_CHUNK_BYTES,),
                fill_value=0,
                attributes={"long_name": "compressed run-length codes of COCO, one per instance"},
            )
            codes[...] = masks


def create_stimuli(root: str, images: xr.Dataset, *, size: int, cut: Cut, attributes: Mapping[str, Any]) -> None:
    """Create the group of the images: coordinates with their values, pixels without.

    ``root`` is that of the hierarchy, or the group of a sister experiment.
    """
    with _new_group(root, STIMULI_GROUP, _typed(images), attributes) as group:
        _create_array(
            group,
            "images",
            dims={"image": images.sizes["image"], "channel": 3, "y": size, "x": size},
            dtype="uint8",
            chunk=(*cut.chunk, size, size),
            shard=(*cut.shard, size, size),
            fill_value=0,
            attributes={"long_name": "image as shown, resized", "channels": "red green blue"},
        )


def _typed(table: xr.Dataset) -> xr.Dataset:
    """Variables as coordinates with the types, units and meanings of the schema; others keep theirs."""
    coordinates: dict[Any, Any] = {}
    for name, variable in table.variables.items():
        known = COORDINATES.get(str(name))
        attributes = variable.attrs | (known.attributes() if known else {})
        values = variable.values.astype(known.dtype) if known else variable.values
        coordinates[name] = (variable.dims, values, attributes)
    return xr.Dataset(coords=coordinates)


@contextmanager
def _new_group(root: str, name: str, coordinates: xr.Dataset, attributes: Mapping[str, Any]) -> Iterator[zarr.Group]:
    """A group with its coordinates, to which arrays are added; it gets its name when all of them exist.

    An existing group of that name is kept: a faster attempt at the same task made the same group.
    """
    temporary = f".{name}.{uuid4().hex[:8]}{TEMPORARY}" if is_local(root) else name
    # for an object store the group is made in memory first: zarr would ask for each object several times
    in_memory: dict[str, Buffer] = {}
    target = LocalStore(local_path(root)) if is_local(root) else MemoryStore(in_memory)
    encoding = {
        str(key): {"chunks": variable.shape, "compressors": compressors("zstd")}
        for key, variable in coordinates.variables.items()
        if variable.size
    }
    with writing(f"{root}/{name}"):
        try:
            coordinates.assign_attrs(attributes).to_zarr(
                target,
                group=temporary,
                mode="w",
                zarr_format=3,
                consolidated=False,
                encoding=encoding,
                write_empty_chunks=True,  # so that a missing chunk is an error, never zeros
            )
            yield zarr.open_group(target, path=temporary, mode="r+", zarr_format=3, use_consolidated=False)
            if not is_local(root):
                in_memory.pop("zarr.json", None)  # the root is written last
                files = {path: buffer.to_bytes() for path, buffer in in_memory.items()}
                put_files(root, files, last=f"{name}/zarr.json")
            elif not (place := local_path(f"{root}/{name}")).exists():
                _check_complete(place.with_name(temporary), coordinates, attributes, place)
                flush.publish(place.with_name(temporary), place)
        finally:
            if is_local(root):
                remove(f"{root}/{temporary}")


def _check_complete(made: Path, coordinates: xr.Dataset, attributes: Mapping[str, Any], place: Path) -> None:
    """Refuse a group whose files another command removed meanwhile: Zarr makes it once more, without attributes."""
    files = [f"{name}/zarr.json" for name in coordinates.variables]
    files += ["/".join([str(name), "c", *"0" * one.ndim]) for name, one in coordinates.variables.items() if one.size]
    group = made / "zarr.json"
    stated = json.loads(group.read_bytes()).get("attributes", {}) if group.exists() else {}
    if not (stated.keys() >= {*attributes, "coordinates"} and all((made / file).exists() for file in files)):
        raise StoreError(f"{place}: removed while it was written, by another command; run the same command again")


def _create_array(
    group: zarr.Group,
    name: str,
    *,
    dims: Mapping[str, int],
    dtype: str,
    chunk: tuple[int, ...],
    shard: tuple[int, ...],
    fill_value: Any,
    attributes: Mapping[str, Any],
    codec: str = "none",
) -> zarr.Array[Any]:
    return group.create_array(
        name,
        shape=tuple(dims.values()),
        dtype=dtype,
        chunks=chunk,
        shards=shard,
        fill_value=fill_value,
        compressors=compressors(codec),
        dimension_names=tuple(dims),
        attributes=dict(attributes),
    )


def publish_store(workspace: Workspace, attributes: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Make a complete, verified build a store, and remove the workspace.

    Parameters
    ----------
    workspace : Workspace
    attributes : mapping
        Attributes of the root group, besides the schema version.
    manifest : mapping
        Sources, settings and versions; becomes ``manifest.json``.

    Raises
    ------
    StoreError
        The name has been taken since the build began.
    """
    root, record = f"{workspace.built}/zarr.json", f"{workspace.built}/manifest.json"
    if is_taken(workspace.store):
        raise StoreError(
            f"{workspace.store}: exists; remove it or choose another store (the build is {workspace.built})"
        )
    try:
        with writing(workspace.built):
            remove_leftovers(workspace.built)
            metadata = _consolidated(workspace.built)
            metadata["attributes"] = {SCHEMA: SCHEMA_VERSION, **attributes}
            _write_json(record, manifest)
            _write_json(root, sealed(metadata))  # last: it makes this a store
            if workspace.built != workspace.store:
                flush.publish(local_path(workspace.built), local_path(workspace.store))
    except (KeyError, OSError):  # another command renamed the folder; needs two that pass the lock
        if workspace.built != workspace.store and is_taken(workspace.store):
            raise StoreError(f"{workspace.store}: another command has published it; see nsdflow info") from None
        raise
    remove(workspace.folder)


def _consolidated(built: str) -> dict[str, Any]:
    """Metadata of the root with those of all groups and arrays below, which xarray reads, too.

    The root itself stays in memory until it is complete: it makes the folder a store.
    """
    overlay = _RootInMemory(LocalStore(local_path(built)) if is_local(built) else FsspecStore.from_url(built))
    with warnings.catch_warnings():  # of an extension of Zarr v3, and of files of an interrupted publication
        warnings.filterwarnings("ignore", "Consolidated metadata|Object at .* is not recognized")
        zarr.open_group(overlay, mode="a", zarr_format=3, use_consolidated=False)
        zarr.consolidate_metadata(overlay, zarr_format=3)
    return dict(json.loads(overlay.root["zarr.json"].to_bytes()))


class _RootInMemory(WrapperStore[LocalStore | FsspecStore]):
    """A Zarr store whose root is read and written in memory."""

    def __init__(self, store: LocalStore | FsspecStore) -> None:
        super().__init__(store)
        self.root: dict[str, Buffer] = {}
        self._in_memory = MemoryStore(self.root)

    def _holder(self, key: str) -> Store:
        return self._in_memory if key == "zarr.json" else self._store

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        return await self._holder(key).get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        return await self._holder(key).exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        await self._holder(key).set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        await self._holder(key).set_if_not_exists(key, value)


def _write_json(url: str, value: Mapping[str, Any]) -> None:
    with atomic_file(url) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())
