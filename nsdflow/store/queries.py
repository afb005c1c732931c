"""Lazy, labelled queries: nothing is read from a store's large arrays until a result is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from dask.utils import format_bytes
from numpy.typing import ArrayLike, NDArray

from nsdflow.errors import ConfigError, MissingDataError, StoreError, one_of
from nsdflow.io.folders import exists
from nsdflow.io.paths import is_local, local_path
from nsdflow.io.read import read_metadata
from nsdflow.names import subject_name, subject_number
from nsdflow.store.coordinates import read_coordinates
from nsdflow.store.responses import read_images, read_responses
from nsdflow.store.schema import SCHEMA, SCHEMA_VERSION, STIMULI, UNITS
from nsdflow.store.selection import select_images, select_trials, select_voxels
from nsdflow.store.shards import ShardedArray, open_sharded

__all__ = ["Explanation", "Store", "open_store"]

#: A lazy block holds the chunks of one session and this many neighbouring chunks of voxels.
BLOCK_CHUNKS: Final = 8

#: What stays a coordinate in tables of trials, voxels and images: what says which one a row is.
LABELS: Final = ("nsd_id", "flat_index", "hemisphere")

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Explanation:
    """What computing a query would read."""

    shape: tuple[int, int]
    """(trial, voxel) of the result."""
    result_bytes: int
    """Size of the result in memory (float32)."""
    bytes: int
    """Bytes of the chunks to read, before compression."""
    chunks: int
    files: int

    def __str__(self) -> str:
        trials, voxels = self.shape
        return (
            f"{trials} trials x {voxels} voxels = {format_bytes(self.result_bytes)} of float32; "
            f"reads {format_bytes(self.bytes)} in {self.chunks} chunks of {self.files} files"
        )


class Store:
    """A store of NSD, opened by :func:`open_store`; holds coordinates, never responses.

    Attributes
    ----------
    url : str
        Where it is.
    subjects : tuple of str
        ``("subj01", ...)``.
    attrs : mapping
        What the store says about itself.
    """

    def __init__(self, url: str, subjects: tuple[str, ...], attrs: Mapping[str, Any]) -> None:
        self.url, self.subjects, self.attrs = url, subjects, dict(attrs)
        self._coordinates: dict[str, xr.Dataset] = {}

    def __repr__(self) -> str:
        return f"<nsdflow.Store {self.url}: {', '.join(self.subjects)}>"

    def trials(self, subject: str | int) -> xr.Dataset:
        """The trials of a subject in the order of presentation: session, run, nsd_id, repetition, ..."""
        return self._table(self._subject(subject), "trial")

    def voxels(self, subject: str | int) -> xr.Dataset:
        """The voxels of a subject in the order of the store: flat_index, roi, ncsnr, a label for each atlas."""
        return self._table(self._subject(subject), "voxel")

    def images(self, nsd_id: ArrayLike | None = None) -> xr.DataArray:
        """The images, lazily.

        Parameters
        ----------
        nsd_id : int or sequence of int, optional
            Which ones; all if not given.

        Returns
        -------
        xr.DataArray
            (image, channel, y, x) uint8, RGB, by ascending ``nsd_id``.

        Raises
        ------
        MissingDataError
            The store was made without images.
        SelectionError
            One of the images is not in the store.
        """
        if STIMULI not in self._coordinates and not exists(f"{self.url}/{STIMULI}"):
            raise MissingDataError(f"{self.url}: ingested without images; ingest again with --images shown, or all")
        table = self._group(STIMULI)
        rows = select_images(table, nsd_id)
        array = open_sharded(f"{self.url}/{STIMULI}/images")
        sizes = _block_sizes(rows, array.chunk[0] * BLOCK_CHUNKS)
        pixels = array.shape[1:]
        values = da.map_blocks(
            read_images,
            da.from_array(rows[:, None, None, None], chunks=(sizes, 1, 1, 1)),
            images=array,
            chunks=(sizes, *((size,) for size in pixels)),
            dtype=np.uint8,
            meta=np.empty((0, *pixels), np.uint8),
        )
        coords = table.isel(image=rows).coords
        return xr.DataArray(values, coords, ("image", "channel", "y", "x"), "images", dict(table.attrs))

    def responses(
        self,
        subject: str | int,
        roi: str | Iterable[str] | None = None,
        voxels: str | slice | ArrayLike | None = None,
        ncsnr_min: float | None = None,
        sessions: int | Iterable[int] | None = None,
        shared: bool | None = None,
        zscore: bool = True,
        nsd_id: ArrayLike | None = None,
    ) -> xr.DataArray:
        """Single-trial responses of a subject, lazily; conditions are combined with "and".

        Parameters
        ----------
        subject : str or int
            ``"subj01"`` or 1.
        roi : str or iterable of str, optional
            A group (V1, V2, V3, hV4, V3ab, LO, IPS, VO, PHC, MT, MST, other), a label (``"V1v"``), an atlas
            (``"nsdgeneral"``), a label of an atlas (``"FFA-1"``, ``"floc-faces:FFA-1"``), or several of these.
        voxels : str, slice, sequence of int or bool mask, optional
            Positions along ``voxel`` (the result keeps the store's order), or a voxel set by name as in ``roi``.
        ncsnr_min : float, optional
            Least noise ceiling signal-to-noise ratio; voxels whose ncsnr is NaN are left out.
        sessions : int or iterable of int, optional
            Session numbers, from 1.
        shared : bool, optional
            True: only trials of images that all subjects saw; False: only the others.
        zscore : bool
            As published: x/300 in percent signal change, minus the session's mean, divided by its standard
            deviation (ddof 0) + 1e-6, NaN becomes 0. False: percent signal change.
        nsd_id : int or sequence of int, optional
            Only trials that show these images.

        Returns
        -------
        xr.DataArray
            (trial, voxel) float32 with the coordinates of both.

        Raises
        ------
        SelectionError
            An unknown subject, ROI, session or image; the message lists what there is.
        """
        name = self._subject(subject)
        coordinates = self._group(name)
        rows, columns = self._select(name, roi, voxels, ncsnr_min, sessions, shared, nsd_id)
        betas = self._array(name, "betas")
        statistics = (self._array(name, "beta_mean"), self._array(name, "beta_std")) if zscore else None
        row_sizes = _block_sizes(rows, betas.chunk[0])
        column_sizes = _block_sizes(columns, betas.chunk[1] * BLOCK_CHUNKS)
        values = da.map_blocks(
            read_responses,
            da.from_array(rows[:, None], chunks=(row_sizes, 1)),
            da.from_array(columns[None, :], chunks=(1, column_sizes)),
            betas=betas,
            statistics=statistics,
            chunks=(row_sizes, column_sizes),
            dtype=np.float32,
            meta=np.empty((0, 0), np.float32),
        )
        attrs = {**coordinates.attrs, "units": "1" if zscore else UNITS}
        attrs["long_name"] = "response, z-scored within session" if zscore else "response"
        chosen = coordinates.isel(trial=rows, voxel=columns)
        return chosen.assign(responses=(("trial", "voxel"), values, attrs))["responses"]  # without a copy of them

    def explain(
        self,
        subject: str | int,
        roi: str | Iterable[str] | None = None,
        voxels: str | slice | ArrayLike | None = None,
        ncsnr_min: float | None = None,
        sessions: int | Iterable[int] | None = None,
        shared: bool | None = None,
        zscore: bool = True,
        nsd_id: ArrayLike | None = None,
    ) -> Explanation:
        """What :meth:`responses` with the same arguments would read, without reading it."""
        name = self._subject(subject)
        rows, columns = self._select(name, roi, voxels, ncsnr_min, sessions, shared, nsd_id)
        arrays = [self._array(name, "betas")]
        selections = [(rows, columns)]
        if zscore:
            arrays += [self._array(name, "beta_mean"), self._array(name, "beta_std")]
            selections += [(np.unique(rows // arrays[0].chunk[0]), columns)] * 2
        chunks = [array.count_chunks(*chosen) for array, chosen in zip(arrays, selections, strict=True)]
        return Explanation(
            shape=(len(rows), len(columns)),
            result_bytes=4 * len(rows) * len(columns),
            bytes=sum(count * prod(a.chunk) * a.dtype.itemsize for a, count in zip(arrays, chunks, strict=True)),
            chunks=sum(chunks),
            files=sum(a.count_shards(*chosen) for a, chosen in zip(arrays, selections, strict=True)),
        )

    def _select(
        self,
        subject: str,
        roi: str | Iterable[str] | None,
        voxels: str | slice | ArrayLike | None,
        ncsnr_min: float | None,
        sessions: int | Iterable[int] | None,
        shared: bool | None,
        nsd_id: ArrayLike | None,
    ) -> tuple[Index, Index]:
        table = self._group(subject)
        rows = select_trials(table, sessions=sessions, shared=shared, nsd_id=nsd_id)
        return rows, select_voxels(table, roi=roi, positions=voxels, ncsnr_min=ncsnr_min)

    def _subject(self, subject: str | int) -> str:
        with suppress(ConfigError):  # what is the name of no subject at all is not one of these either
            name = subject_name(subject_number(str(subject)))
            if name in self.subjects:
                return name
        raise one_of("subject", subject, self.subjects)

    def _array(self, subject: str, name: str) -> ShardedArray:
        return open_sharded(f"{self.url}/{subject}/{name}")

    def _table(self, group: str, dim: str) -> xr.Dataset:
        coordinates = self._group(group)
        names = [name for name, variable in coordinates.variables.items() if dim in variable.dims]
        table = coordinates.reset_coords()[names]
        return table.set_coords([name for name in LABELS if name in names])

    def _group(self, group: str) -> xr.Dataset:
        """Coordinates of a group, in memory, read once."""
        if group not in self._coordinates:
            self._coordinates[group] = read_coordinates(self.url, group)
        return self._coordinates[group]


def open_store(url: str) -> Store:
    """Open a store.

    Parameters
    ----------
    url : str or path
        A folder, or an fsspec URL to read it from elsewhere.

    Raises
    ------
    MissingDataError
        There is nothing, or only a build that is not finished.
    StoreError
        Something else is there, or a store of a newer schema.
    """
    where = str(local_path(url)) if is_local(str(url)) else str(url).rstrip("/")
    attributes = _root_attributes(where)
    if SCHEMA not in attributes:
        raise StoreError(f"{where}: a Zarr group, but not an nsdflow store; `nsdflow ingest` makes one")
    if attributes[SCHEMA] > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: schema {attributes[SCHEMA]}, newer than the {SCHEMA_VERSION} this nsdflow reads; "
            "upgrade nsdflow, or ingest again with this one"
        )
    return Store(where, tuple(attributes["subjects"]), attributes)


def _root_attributes(url: str) -> dict[str, Any]:
    try:
        metadata = read_metadata(f"{url}/zarr.json")
    except (FileNotFoundError, NotADirectoryError) as error:
        building = f"{url}.building"
        unfinished = exists(building)
        hint = f"{building} is an unfinished build of it, `nsdflow ingest` with the same settings continues"
        raise MissingDataError(
            f"{url}: no store there; {hint if unfinished else '`nsdflow ingest` makes one'}"
        ) from error
    return dict(metadata.get("attributes", {}))


def _block_sizes(positions: Index, size: int) -> tuple[int, ...]:
    """Lengths of the runs of ascending positions that lie in the same stretch of ``size``."""
    counts = np.unique(positions // size, return_counts=True)[1]
    return tuple(counts.tolist()) or (0,)
