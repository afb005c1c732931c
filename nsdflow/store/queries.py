"""Lazy, labelled queries: nothing is read from a store's large arrays until a result is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from dask.utils import format_bytes

from nsdflow.errors import ConfigError, MissingDataError, StoreError, one_of
from nsdflow.io.folders import exists
from nsdflow.io.paths import is_local, local_path
from nsdflow.io.read import read_metadata
from nsdflow.names import subject_name, subject_number
from nsdflow.store.coordinates import read_coordinates
from nsdflow.store.query.blocks import cut_rows, cut_table
from nsdflow.store.query.forks import survive_forks
from nsdflow.store.query.indexes import TRIAL_KEY, index_images, index_trials
from nsdflow.store.query.selection import Selection, select_images, select_trials, select_voxels
from nsdflow.store.responses import SessionStatistics, TrainingStatistics, read_images, read_responses
from nsdflow.store.schema import SCHEMA, SCHEMA_VERSION, STIMULI, UNITS
from nsdflow.store.shards import ShardedArray, open_sharded

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Explanation", "Store", "open_store"]

#: A lazy block of images holds about this many bytes.
IMAGE_BLOCK_BYTES: Final = 16 << 20

#: Variables kept as coordinates in tables because they identify the rows.
LABELS: Final = (*TRIAL_KEY, "nsd_id", "flat_index", "hemisphere")

#: Attributes of responses by what they are z-scored with.
RESPONSES: Final[Mapping[str | bool, Mapping[str, str]]] = {
    "session": {"units": "1", "long_name": "response, z-scored within session"},
    "training": {"units": "1", "long_name": "response, z-scored with the session's training trials"},
    False: {"units": UNITS, "long_name": "response"},
}


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
            Which images, in which order, repeats included; all by ascending ``nsd_id`` if not given.

        Returns
        -------
        xr.DataArray
            (image, channel, y, x) uint8, RGB, with an index of ``nsd_id``. ``x`` counts pixels from the left edge,
            ``y`` from the bottom edge, so that the first row of pixels has the largest ``y`` and plots are upright.

        Raises
        ------
        MissingDataError
            The store was made without images.
        SelectionError
            An image is not in the store.
        """
        if STIMULI not in self._coordinates and not exists(f"{self.url}/{STIMULI}"):
            raise MissingDataError(f"{self.url}: ingested without images; ingest again with --images shown, or all")
        table = self._group(STIMULI)
        rows = select_images(table, nsd_id)
        array = open_sharded(f"{self.url}/{STIMULI}/images")
        pixels = array.shape[1:]
        sizes = cut_rows(len(rows), max(array.chunk[0], IMAGE_BLOCK_BYTES // prod(pixels)))
        values = da.map_blocks(
            read_images,
            da.from_array(rows[:, None, None, None], chunks=(sizes, 1, 1, 1)),
            images=array,
            chunks=(sizes, *((size,) for size in pixels)),
            dtype=np.uint8,
            meta=np.empty((0, *pixels), np.uint8),
        )
        _, height, width = pixels
        edges = {
            "y": ("y", np.arange(height)[::-1], {"long_name": "pixel from the bottom edge, from 0"}),
            "x": ("x", np.arange(width), {"long_name": "pixel from the left edge, from 0"}),
        }
        coords = table.isel(image=rows).assign_coords(edges).coords
        return xr.DataArray(values, coords, ("image", "channel", "y", "x"), "images", dict(table.attrs))

    def responses(
        self,
        subject: str | int,
        roi: str | Iterable[str] | None = None,
        voxels: str | slice | ArrayLike | None = None,
        ncsnr_min: float | None = None,
        sessions: int | Iterable[int] | None = None,
        shared: bool | None = None,
        zscore: str | bool = "session",
        nsd_id: ArrayLike | None = None,
    ) -> xr.DataArray:
        """Single-trial responses of a subject, lazily; conditions are combined with "and".

        Trials are in the order of presentation and voxels in that of the store, unless ``nsd_id``, ``sessions`` or
        ``voxels`` list them in another order: that order is kept, repeats included.

        Parameters
        ----------
        subject : str or int
            ``"subj01"`` or 1.
        roi : str or iterable of str, optional
            A group (V1, V2, V3, hV4, V3ab, LO, IPS, VO, PHC, MT, MST, other), a label (``"V1v"``), an atlas
            (``"nsdgeneral"``), a label of an atlas (``"FFA-1"``; ``"FFA"`` for FFA-1 and FFA-2;
            ``"floc-faces:FFA-1"``), or several of these, of which a voxel is in any.
        voxels : str, slice, sequence of int or bool mask, optional
            Positions along ``voxel``, or a voxel set by its name (``"evc"``, ``"nsdgeneral"``, ...).
        ncsnr_min : float, optional
            Least noise ceiling signal-to-noise ratio; voxels whose ncsnr is NaN are left out.
        sessions : int or iterable of int, optional
            Session numbers, from 1.
        shared : bool, optional
            True: only trials of images that all subjects saw; False: only the others.
        zscore : {"session", "training"} or bool
            ``"session"`` or True, as published: x/300 in percent signal change, minus the mean of the session's
            trials, divided by their standard deviation (ddof 0) + 1e-6; NaN becomes 0. ``"training"``: mean and
            standard deviation of those trials of the session that show no shared image, so that nothing about the
            shared images enters. False: percent signal change.
        nsd_id : int or sequence of int, optional
            Only trials that show these images, image by image.

        Returns
        -------
        xr.DataArray
            (trial, voxel) float32 with the coordinates of both in memory, and an index of (session,
            trial_in_session).

        Raises
        ------
        SelectionError
            An unknown subject, ROI, session or image, or a value that an argument does not take.
        """
        selection = Selection(
            roi=roi, voxels=voxels, ncsnr_min=ncsnr_min, sessions=sessions, shared=shared, zscore=zscore, nsd_id=nsd_id
        )
        name = self._subject(subject)
        table = self._group(name)
        rows, columns = select_trials(table, selection), select_voxels(table, selection)
        betas = self._array(name, "betas")
        row_sizes, column_sizes = cut_table(rows, len(columns), (betas.chunk[0], betas.chunk[1]))
        values = da.map_blocks(
            read_responses,
            da.from_array(rows[:, None], chunks=(row_sizes, 1)),
            da.from_array(columns[None, :], chunks=(1, column_sizes)),
            betas=betas,
            zscore=self._statistics(name, selection.zscore),
            chunks=(row_sizes, column_sizes),
            dtype=np.float32,
            meta=np.empty((0, 0), np.float32),
        )
        attrs = {**table.attrs, **RESPONSES[selection.zscore]}
        chosen = table.isel(trial=rows, voxel=columns)
        return chosen.assign(responses=(("trial", "voxel"), values, attrs))["responses"]  # coordinates are not copied

    def explain(
        self,
        subject: str | int,
        roi: str | Iterable[str] | None = None,
        voxels: str | slice | ArrayLike | None = None,
        ncsnr_min: float | None = None,
        sessions: int | Iterable[int] | None = None,
        shared: bool | None = None,
        zscore: str | bool = "session",
        nsd_id: ArrayLike | None = None,
    ) -> Explanation:
        """What :meth:`responses` with the same arguments would read, without reading it."""
        selection = Selection(
            roi=roi, voxels=voxels, ncsnr_min=ncsnr_min, sessions=sessions, shared=shared, zscore=zscore, nsd_id=nsd_id
        )
        name = self._subject(subject)
        table = self._group(name)
        rows, columns = select_trials(table, selection), select_voxels(table, selection)
        reads = [(self._array(name, "betas"), rows)]
        length = reads[0][0].chunk[0]
        statistics = self._statistics(name, selection.zscore)
        if isinstance(statistics, SessionStatistics):
            reads += [(array, rows // length) for array in (statistics.mean, statistics.std)]
        chunks = [array.count_chunks(where, columns) for array, where in reads]
        return Explanation(
            shape=(len(rows), len(columns)),
            result_bytes=4 * len(rows) * len(columns),
            bytes=sum(n * prod(a.chunk) * a.dtype.itemsize for n, (a, _) in zip(chunks, reads, strict=True)),
            chunks=sum(chunks),
            files=sum(array.count_shards(where, columns) for array, where in reads),
        )

    def _statistics(self, subject: str, zscore: str | bool) -> SessionStatistics | TrainingStatistics | None:
        if zscore == "session":
            return SessionStatistics(self._array(subject, "beta_mean"), self._array(subject, "beta_std"))
        return TrainingStatistics(f"{self.url}/{subject}") if zscore == "training" else None

    def _subject(self, subject: str | int) -> str:
        with suppress(ConfigError):  # a malformed name gets the same error as an unknown subject
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
        """Coordinates of a group with their index, in memory, read once."""
        if group not in self._coordinates:
            table = read_coordinates(self.url, group)
            table.attrs.pop("sessions", None)  # it would stay after a selection of some of them
            self._coordinates[group] = index_images(table) if group == STIMULI else index_trials(table)
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
    survive_forks()
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
