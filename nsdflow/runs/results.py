"""Results of runs: a labelled tree in few files, complete or absent.

On a file system the tree is written under another name, flushed and renamed. Object stores cannot rename: there it is
written in place, and last the consolidated metadata, without which it does not count as results.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import UnstableSpecificationWarning
from zarr.storage import LocalStore, MemoryStore

from nsdflow.errors import MissingDataError, RunError, StoreError
from nsdflow.io.flush import keep_tree, publish
from nsdflow.io.folders import exists, remove
from nsdflow.io.paths import is_local, local_path, normalize
from nsdflow.io.places import RUN, not_wanted
from nsdflow.io.reach import reaching, writing
from nsdflow.io.read import read_bytes
from nsdflow.io.seal import SEAL, sealed
from nsdflow.io.tensors import RUN_AGAIN
from nsdflow.io.write import TEMPORARY, put_files
from nsdflow.labels import with_labels
from nsdflow.runs.tree import RunTree
from nsdflow.runs.trust import check_results
from nsdflow.store.shard_format import open_sharded, verified
from nsdflow.store.verify import check_whole

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer, BufferPrototype
    from zarr.abc.store import ByteRequest

__all__ = [
    "RESULTS",
    "ResultArray",
    "create_results",
    "has_results",
    "open_run",
    "publish_results",
    "unpublished",
    "write_results",
]

#: Name of the tree in the folder of a run.
RESULTS: Final = "results.zarr"
#: Attributes of a group that locate its voxels; its coordinate ``flat_index`` gets them when it is opened.
PLACE: Final = ("subject", "space", "source")
#: Metadata of the whole tree.
ROOT: Final = "zarr.json"
#: Largest number of connections to S3; aiobotocore's ten run out where many answers break.
MOST_CONNECTIONS: Final = 200
#: Larger arrays are cut along their first axis.
RESULT_CHUNK_BYTES: Final = 64 << 20
#: Compression of every chunk, and its checksum, which zarr checks on reading.
RESULT_CODECS: Final = (ZstdCodec(level=1), Crc32cCodec())


def write_results(run: str | os.PathLike[str], tree: xr.DataTree) -> None:
    """Write the results of a run and replace earlier ones.

    On a file system a reader finds the old results or the new ones, in an object store none for a moment.

    Parameters
    ----------
    run : path or URL
        Folder of the run.
    tree : xr.DataTree
        ``/subj01`` ... with voxel coordinates, ``/history`` and whatever the kind of run adds. Variables without a long
        name or unit get those of :data:`nsdflow.labels.VARIABLE_LABELS`.
    """
    url = f"{str(run).rstrip('/')}/{RESULTS}"
    labelled = xr.DataTree.from_dict({node.path: with_labels(node.to_dataset(inherit=False)) for node in tree.subtree})
    with writing(url):
        if is_local(url):
            _write_aside(local_path(url), labelled)
        else:
            remove(f"{url}/zarr.json")  # unpublish the results before their chunks are removed
            remove(url)
            hierarchy: dict[str, Buffer] = {}
            _write_tree(MemoryStore(hierarchy), labelled)
            files = {path: buffer.to_bytes() for path, buffer in hierarchy.items()}
            put_files(url, {**files, ROOT: _sealed(files[ROOT])}, last=ROOT)


@dataclass(frozen=True)
class ResultArray:
    """An array (image, column) of results that tasks write by rows of whole shards."""

    name: str
    column: str
    """Name of the second dimension."""
    shape: tuple[int, int]
    chunk: tuple[int, int]
    """A shard holds one chunk of images, and all columns."""
    dtype: str
    attributes: Mapping[str, str]


def unpublished(folder: str) -> str:
    """Path or URL of results that tasks still write: in ``parts`` where they can be renamed, else the final one."""
    return f"{folder}/parts/{RESULTS}" if is_local(folder) else f"{folder}/{RESULTS}"


def create_results(folder: str, tables: Mapping[str, xr.Dataset], arrays: Mapping[str, ResultArray]) -> None:
    """Create unpublished results with their coordinates, and with arrays without values.

    Parameters
    ----------
    tables : mapping
        Coordinates and attributes of each group.
    arrays : mapping
        Array of some of the groups.

    Raises
    ------
    StoreError
        As :func:`nsdflow.io.reach.writing`.
    """
    path = unpublished(folder)
    with writing(path):
        # empty chunks are written too, so that a missing chunk is an error and never zeros
        with _extensions():
            xr.DataTree.from_dict(tables).to_zarr(
                path, mode="w", zarr_format=3, consolidated=False, write_empty_chunks=True
            )
        for group, array in arrays.items():
            rows, columns = array.chunk
            zarr.open_group(f"{path}/{group}", mode="r+", use_consolidated=False).create_array(
                array.name,
                shape=array.shape,
                dtype=array.dtype,
                chunks=array.chunk,
                shards=(rows, math.ceil(array.shape[1] / columns) * columns),
                fill_value=math.nan,
                compressors=None,
                dimension_names=("image", array.column),
                attributes=dict(array.attributes),
            )
        if is_local(path):
            keep_tree(local_path(path))


def publish_results(folder: str, arrays: Iterable[str]) -> None:
    """Check that no shard of the arrays (``group/name``) is missing, and give the results their final name.

    Raises
    ------
    StoreError
        A shard is missing.
    """
    path = unpublished(folder)
    for name in arrays:
        array = open_sharded(f"{path}/{name}")
        check_whole(array.url, array.shape)
    with _extensions():
        zarr.consolidate_metadata(path, zarr_format=3)
    if is_local(path):
        publish(local_path(path), local_path(f"{folder}/{RESULTS}"))


@contextmanager
def _extensions() -> Iterator[None]:
    """Fixed-length strings and consolidated metadata are extensions of Zarr v3 that zarr and xarray agree on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        warnings.filterwarnings("ignore", "Consolidated metadata")
        yield


def _write_aside(target: Path, tree: xr.DataTree) -> None:
    aside = target.with_name(f".{RESULTS}.{uuid4().hex[:8]}{TEMPORARY}")
    try:
        _write_tree(aside, tree)
        root = aside / ROOT
        root.write_bytes(_sealed(root.read_bytes()))
        if target.exists():
            old = target.with_name(f".{RESULTS}.{uuid4().hex[:8]}{TEMPORARY}")
            target.rename(old)
            publish(aside, target)
            shutil.rmtree(old)
        else:
            publish(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sealed(root: bytes) -> bytes:
    return json.dumps(sealed(json.loads(root)), indent=2).encode()


def _write_tree(place: Path | MemoryStore, tree: xr.DataTree) -> None:
    encoding = {
        node.path: {
            str(name): {"chunks": _chunk_shape(variable), "compressors": RESULT_CODECS}
            for name, variable in node.dataset.variables.items()
            if variable.size
        }
        for node in tree.subtree
    }
    with _extensions():
        tree.to_zarr(
            place, mode="w", zarr_format=3, consolidated=True, encoding=encoding, write_inherited_coords=False,
            write_empty_chunks=True,  # so that a missing chunk is an error and never zeros
        )  # fmt: skip


def has_results(run: str | os.PathLike[str]) -> bool:
    """Whether the results of a run are complete."""
    url = f"{str(run).rstrip('/')}/{RESULTS}"
    if is_local(url):
        return exists(url)
    try:
        return "consolidated_metadata" in json.loads(read_bytes(f"{url}/zarr.json"))
    except FileNotFoundError:
        return False
    except ValueError:
        raise RunError(f"{url}/zarr.json is damaged; remove {url} and run the same command again") from None


def open_run(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open the results of a run; values are read when they are used, and their checksums checked.

    Parameters
    ----------
    path : path or URL
        Folder of the run.

    Returns
    -------
    xarray.DataTree
        A group per subject. Notebooks show a table above it: voxels, trials, size, accuracy and noise ceiling.

    Raises
    ------
    MissingDataError
        There is no such run, it has no results yet, or the folder is not that of a run.
    RunError
        The results are damaged, or not as nsdflow writes them (:mod:`nsdflow.runs.trust`).
    """
    run = normalize(path)
    if not has_results(run):
        raise MissingDataError(f"{run}: {_why_not(run)}")
    url = f"{run}/{RESULTS}"
    with_checksums = check_results(url)
    # the store object, since zarr takes a path that contains "::" for a chained URL
    place: Any = _Verified(local_path(url), with_checksums) if is_local(url) else url
    with reaching(run):
        tree = xr.open_datatree(
            place, engine="zarr", chunks=None, consolidated=True, zarr_format=3, storage_options=_connections(run)
        )
        if not is_local(run):
            _load_coordinates(tree)
    tree.attrs.pop(SEAL, None)
    for node in tree.subtree:
        if "flat_index" in node.coords:  # a variable taken out of its group loses the group's attributes
            place = {name: node.attrs[name] for name in PLACE if name in node.attrs}
            node.coords["flat_index"].attrs.update(place)
    return RunTree.of(tree, run)


class _Verified(LocalStore):
    """A folder that compares chunks with their checksums before zarr does, for an error that names the file."""

    def __init__(self, root: Path, with_checksums: frozenset[str] = frozenset(), *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self._with_checksums = with_checksums

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.root, self._with_checksums, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        if found is not None and byte_range is None and key.partition("/c/")[0] in self._with_checksums:
            try:
                verified(found.to_bytes(), str(self.root / key))
            except StoreError as error:
                raise RunError(f"{str(error).removesuffix('ingest again')}{RUN_AGAIN}") from None
        return found


def _connections(run: str) -> dict[str, Any] | None:
    """Options of S3: enough connections, because those that broke within a body stay in the pool."""
    return {"config_kwargs": {"max_pool_connections": MOST_CONNECTIONS}} if run.startswith("s3://") else None


def _why_not(run: str) -> str:
    """Why a run without results cannot be opened."""
    if exists(f"{run}/run.yaml"):
        return "has no results yet; `nsdflow status` says how far it is"
    there = "no run, for it has no run.yaml; give the folder that `nsdflow run` made"
    return not_wanted(run, RUN) or (there if exists(run) else "no such run")


def _load_coordinates(tree: xr.DataTree) -> None:
    """Coordinates are small and every use of an array needs them: fetch each once, many at a time."""
    variables = {id(variable): variable for node in tree.subtree for variable in node.dataset.coords.variables.values()}
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda one: isinstance(one, xr.IndexVariable) or one.load(), variables.values()):
            pass


def _chunk_shape(variable: xr.Variable) -> tuple[int, ...]:
    """The whole variable, or as many of its first rows as fit."""
    if variable.ndim == 0:
        return ()
    row = max(1, prod(variable.shape[1:]) * variable.dtype.itemsize)
    return (max(1, min(variable.shape[0], RESULT_CHUNK_BYTES // row)), *variable.shape[1:])
