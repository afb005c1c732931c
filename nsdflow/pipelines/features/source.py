"""Features that a ridge reads: layers of a features run, a custom file with one row per image, or annotations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from zipfile import BadZipFile

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis import ANNOTATION_SPACES, annotation_features
from nsdflow.errors import MissingDataError, SelectionError, SourceError, one_of
from nsdflow.io.paths import normalize
from nsdflow.io.reach import writing
from nsdflow.pipelines.features.settings import ANNOTATION_FEATURES
from nsdflow.pipelines.features.tasks import group_of
from nsdflow.runs import open_run
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.results import RESULTS
from nsdflow.store import Store
from nsdflow.store.chunks import read_region
from nsdflow.store.shard_format import open_sharded

__all__ = ["FeatureTable", "open_features", "write_features"]

#: Values that are read at once to look for NaN.
CHECKED_VALUES = 1 << 24


class _Matrix(Protocol):
    """A matrix that is read by rows and columns."""

    @property
    def held_bytes(self) -> int:
        """Bytes that it holds in memory."""

    def read(self, rows: NDArray[np.intp], columns: slice) -> NDArray[Any]:
        """Read some rows (ascending) and a block of columns."""


@dataclass(frozen=True)
class FeatureTable:
    """A matrix (image, feature) and the image of each row."""

    name: str
    nsd_id: NDArray[np.int64]
    count: int
    matrix: _Matrix
    labels: tuple[str, ...] | None = None
    """Name of each feature, for annotations."""
    content: str = ""
    """Changes with the values: a task that has read others runs again."""

    def rows_of(self, ids: NDArray[np.int64]) -> Rows:
        """Rows of some images (ascending), which are read when they are used.

        Raises
        ------
        SelectionError
            An image has no features.
        """
        order = np.argsort(self.nsd_id)
        place = np.minimum(np.searchsorted(self.nsd_id, ids, sorter=order), len(order) - 1)
        rows = order[place]
        if len(absent := np.flatnonzero(self.nsd_id[rows] != ids)):
            raise SelectionError(
                f"features {self.name} lack image {ids[absent[0]]} (and {len(absent) - 1} more) of {len(ids)}; "
                "compute them for all images that the subjects saw"
            )
        return Rows(self, rows)


@dataclass(frozen=True)
class Rows:
    """Some rows of a table, read by columns."""

    table: FeatureTable
    rows: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int]:
        """(row, feature)."""
        return len(self.rows), self.table.count

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.float32]:
        ascending, back = np.unique(self.rows, return_inverse=True)
        values = self.table.matrix.read(ascending, slice(*key[1].indices(self.table.count)))
        values = values if (back == np.arange(len(back))).all() else values[back]
        return np.ascontiguousarray(values, np.float32)


@dataclass(frozen=True)
class _Sharded:
    url: str
    held_bytes: int = 0

    def read(self, rows: NDArray[np.intp], columns: slice) -> NDArray[Any]:
        return read_region(open_sharded(self.url), (rows, np.arange(columns.start, columns.stop)))


@dataclass(frozen=True)
class _InMemory:
    values: NDArray[Any]

    @property
    def held_bytes(self) -> int:
        return 0 if isinstance(self.values, np.memmap) else self.values.nbytes

    def read(self, rows: NDArray[np.intp], columns: slice) -> NDArray[Any]:
        return np.asarray(self.values[rows, columns])


@dataclass(frozen=True)
class _Lazy:
    """An array in a Zarr file of the user, read by blocks."""

    values: xr.DataArray
    held_bytes: int = 0

    def read(self, rows: NDArray[np.intp], columns: slice) -> NDArray[Any]:
        return np.asarray(self.values[rows, columns])


def open_features(
    features: str,
    folder: RunFolder,
    layers: Sequence[str] | None = None,
    *,
    store: Store | None = None,
    check_values: bool = False,
) -> dict[str, FeatureTable]:
    """Open tables of features by the name of the layer or array.

    Parameters
    ----------
    features : str
        A features run next to ``folder``, its path, or a file: ``.npy`` or ``.npz`` (with ``nsd_id``, or with a file
        ``NAME.nsd_id.npy`` next to it), ``.zarr`` or ``.nc`` with a coordinate ``nsd_id``, or ``annotations``: the
        spaces of :data:`nsdflow.analysis.ANNOTATION_SPACES`.
    folder : RunFolder
        Folder of the run that reads the features.
    layers : sequence of str, optional
        Layers, arrays or spaces to open; all if None.
    check_values : bool
        Whether to read all values of a file by blocks, and look for NaN: once, when a run is planned.

    Raises
    ------
    MissingDataError
        There is no such run or file.
    SourceError
        The file does not have one row per image, or it holds NaN.
    SelectionError
        The run or file has no such layer.
    """
    if features == ANNOTATION_FEATURES and store is not None:
        return _from_annotations(store, layers)
    suffix = Path(features).suffix
    if suffix in FILE_READERS:
        tables = _from_file(Path(normalize(features)), layers, check_values=check_values)
    else:
        tables = _from_run(features, folder)
    for layer in layers or ():
        if layer not in tables:
            raise one_of(f"layer of {features}", layer, tables)
    return {layer: table for layer, table in tables.items() if layers is None or layer in layers}


def _from_annotations(store: Store, spaces: Sequence[str] | None) -> dict[str, FeatureTable]:
    annotations, tables = store.annotations(), {}
    possible = [name for name, space in ANNOTATION_SPACES.items() if space.needs in annotations.variables]
    for name in possible if spaces is None else spaces:
        space = annotation_features(annotations, name)
        ids, labels = space["nsd_id"].values, tuple(space["label"].values.tolist())
        tables[name] = FeatureTable(name, ids, space.sizes["feature"], _InMemory(space.values), labels)
    return tables


def _from_run(features: str, folder: RunFolder) -> dict[str, FeatureTable]:
    path = folder.sibling(features).path
    tree = open_run(path)
    content, tables = str(tree.attrs.get("content", "")), {}
    for group, node in tree.children.items():
        if "features" in node.dataset and "nsd_id" in node.dataset.coords:
            layer = str(node.attrs.get("layer", group))
            ids, shape = np.asarray(node.dataset["nsd_id"].values, np.int64), node.dataset["features"].shape
            url = f"{path}/{RESULTS}/{group_of(layer)}/features"
            tables[layer] = FeatureTable(layer, ids, int(shape[1]), _Sharded(url), content=content)
    if not tables:
        raise SourceError(
            f"{path} is not a run of kind features; name one, a file ({', '.join(FILE_READERS)}), or annotations"
        )
    return tables


def _from_file(path: Path, layers: Sequence[str] | None, *, check_values: bool) -> dict[str, FeatureTable]:
    """Tables of a file; arrays that are not asked for may be anything."""
    if not path.exists():
        raise MissingDataError(f"{path}: no such file of features")
    try:
        ids, spaces = FILE_READERS[path.suffix](path, layers)
    except SourceError:
        raise
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(
            f"{path}: cannot be read as {path.suffix} ({reason}); write it again, without pickled objects"
        ) from None
    if not spaces:
        raise SourceError(f"{path} holds no array (image, feature); add one beside nsd_id")
    stat, tables = path.stat(), {}
    content = f"{stat.st_size} bytes, written {stat.st_mtime_ns}"
    for name, values in spaces.items():
        if layers is not None and name not in layers:
            continue
        _check(path, name, ids, values, finite=check_values)
        matrix = _Lazy(values) if isinstance(values, xr.DataArray) else _InMemory(values)
        tables[name] = FeatureTable(name, np.asarray(ids, np.int64), int(values.shape[1]), matrix, content=content)
    return tables


def _check(
    path: Path, name: str, ids: NDArray[Any] | None, values: NDArray[Any] | xr.DataArray, *, finite: bool
) -> None:
    """Raise if the rows of features cannot be those of images."""
    where = f"{path}: {name}"
    if ids is None:
        raise SourceError(f"{where}: which image is each row? give nsd_id in the file, or as {path.stem}.nsd_id.npy")
    if np.ndim(ids) != 1:
        raise SourceError(f"{where}: nsd_id has shape {np.shape(ids)}; give one value per row")
    if values.ndim != 2 or len(values) != len(ids) or not values.size:
        raise SourceError(f"{where} has shape {values.shape} for {len(ids)} values of nsd_id; give one row per image")
    if values.dtype.kind not in "fiub":
        raise SourceError(f"{where} holds {values.dtype}; give real numbers")
    if not np.issubdtype(np.asarray(ids).dtype, np.integer) or len(np.unique(ids)) != len(ids):
        raise SourceError(f"{where}: nsd_id must be different whole numbers, one per row (0 to 72999)")
    if len(ids) and not 0 <= int(np.min(ids)) <= int(np.max(ids)) < 73_000:
        raise SourceError(f"{where}: nsd_id {int(np.min(ids))} to {int(np.max(ids))}; NSD counts from 0 to 72999")
    step = max(1, CHECKED_VALUES // values.shape[1])
    for start in range(0, len(ids) if finite else 0, step):
        broken = ~np.isfinite(np.asarray(values[start : start + step], np.float32))
        if broken.any():
            row = start + int(np.flatnonzero(broken.any(1))[0])
            raise SourceError(f"{where} is not finite in row {row} (image {ids[row]}); replace NaN and infinite values")


_Read = tuple["NDArray[Any] | None", "Mapping[str, NDArray[Any] | xr.DataArray]"]


def _npy(path: Path, _: Sequence[str] | None) -> _Read:
    side = path.with_name(f"{path.stem}.nsd_id.npy")
    return (np.load(side) if side.exists() else None), {path.stem: np.load(path, mmap_mode="r")}


def _npz(path: Path, layers: Sequence[str] | None) -> _Read:
    with path.open("rb") as opened, np.load(opened) as file:  # NumPy leaves a damaged file open
        wanted = [name for name in file.files if layers is None or name in (*layers, "nsd_id")]
        arrays = {name: file[name] for name in wanted}
    return arrays.pop("nsd_id", None), arrays


def _labelled(engine: Literal["zarr"] | None) -> Callable[[Path, Sequence[str] | None], _Read]:
    def read(path: Path, layers: Sequence[str] | None) -> _Read:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # metadata need not be consolidated
                opened = xr.open_dataset(path, engine=engine, chunks=None)
        except ImportError as error:
            raise SourceError(
                f"{path}: cannot be opened ({str(error).splitlines()[0]}); pip install h5netcdf"
            ) from None
        with nullcontext(opened) if engine else opened as dataset:
            ids = dataset["nsd_id"].values if "nsd_id" in dataset.variables else None
            first = dataset["nsd_id"].dims if ids is not None else ()
            wanted = {str(name): array for name, array in dataset.data_vars.items() if array.ndim == 2}
            spaces = {
                name: array.transpose(*first, ...).drop_vars(list(array.coords))
                for name, array in wanted.items()
                if layers is None or name in layers
            }
            return ids, spaces if engine else {name: array.values for name, array in spaces.items()}

    return read


#: Readers of each kind of file, which get the names that are wanted (None: all). Each returns ``nsd_id`` or None, and
#: arrays (image, feature) by name; those of .npy and .zarr stay on disk.
FILE_READERS: Final[Mapping[str, Callable[[Path, Sequence[str] | None], _Read]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".zarr": _labelled("zarr"),
    ".nc": _labelled(None),
}


def write_features(path: str, features: xr.DataArray | xr.Dataset) -> str:
    """Write labelled features, dims (image, feature) with the coordinate ``nsd_id``, for a pipeline to read.

    Parameters
    ----------
    path : str
        Path of a local folder that ends in ``.zarr``. Give it as ``features`` of a ridge pipeline.
    features : DataArray or Dataset
        Features to write.

    Returns
    -------
    str
        The path.

    Raises
    ------
    SelectionError
        The coordinate is missing, or the path does not end in ``.zarr``.
    StoreError
        As :func:`nsdflow.io.reach.writing`.
    """
    named = isinstance(features, xr.DataArray)
    dataset = features.to_dataset(name=str(features.name or "features")) if named else features
    if "nsd_id" not in dataset.variables or "image" not in dataset.dims:
        raise SelectionError("features need dims (image, feature) and a coordinate nsd_id along image")
    if not path.rstrip("/").endswith(".zarr"):
        raise SelectionError(f"{path}: write a path that ends in .zarr; pipelines read features by this ending")
    plain = dataset.reset_index("nsd_id") if "nsd_id" in dataset.xindexes else dataset
    with writing(path):
        plain.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    return path
