"""Arrays of a subject when a query was made, and reading them from a store that has grown since."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import sleep
from typing import Any, Final, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsdflow.errors import MissingDataError, StoreError
from nsdflow.io.folders import exists, list_folder
from nsdflow.io.places import STORE, not_wanted
from nsdflow.io.read import read_metadata
from nsdflow.io.seal import check_seal
from nsdflow.store.coordinates import late_coordinates, nodes_below, read_coordinate
from nsdflow.store.query.indexes import trial_coordinates
from nsdflow.store.shard_format import Index, ShardedArray, parse_sharded

__all__ = ["SubjectArrays", "open_subject", "read_node", "read_root", "steady"]

Read = TypeVar("Read")
State = TypeVar("State")

#: Arrays of a subject's group that a query reads.
ARRAYS: Final = ("betas", "beta_mean", "beta_std")


@dataclass(frozen=True)
class SubjectArrays:
    """The arrays of a subject as they were when a query was made.

    A store can grow afterwards: sessions are added, and the rows of others move. Positions of a query are therefore
    those of ``sessions``, and are translated when the group has other sessions by the time it is read.
    """

    group: str
    """Path or URL of the group."""
    sessions: tuple[int, ...]
    """Session numbers in the order of their rows; empty if the group does not list them."""
    origin: str
    """The other attributes of the group: subject, space, betas, voxel set, volume."""
    betas: ShardedArray
    """(trial, voxel); a chunk holds one session."""
    mean: ShardedArray
    """(session, voxel) float32"""
    std: ShardedArray
    """(session, voxel) float32"""

    @classmethod
    def open(cls, group: str) -> SubjectArrays:
        """Read the metadata of a group."""
        return cls.parse(group, {name: read_node(f"{group}/{name}".rstrip("/")) for name in ("", *ARRAYS)})

    @classmethod
    def parse(cls, group: str, nodes: Mapping[str, Mapping[str, Any]]) -> SubjectArrays:
        """Wrap the metadata of a group (the name ``""``) and of its arrays."""
        if absent := [name for name in ("", *ARRAYS) if name not in nodes]:
            raise StoreError(f"{group}/{absent[0]}: missing; the store is incomplete, ingest again")
        sessions, origin = _state(nodes[""])
        return cls(group, sessions, origin, *(parse_sharded(f"{group}/{name}", nodes[name]) for name in ARRAYS))

    def current(self) -> SubjectArrays:
        """These arrays if nothing changed, otherwise the current ones."""
        same = _state(read_node(self.group)) == (self.sessions, self.origin)
        return self if same else SubjectArrays.open(self.group)

    def translate(self, trials: Index, now: SubjectArrays) -> Index:
        """Positions of trials of these arrays in the arrays of a store that has grown.

        Raises
        ------
        StoreError
            A session is gone, or the voxels are others.
        """
        if now is self:
            return trials
        length = self.betas.chunk[0]
        shape = length, self.betas.shape[1], _lasting(self.origin)
        same = (now.betas.chunk[0], now.betas.shape[1], _lasting(now.origin)) == shape
        if not same or not set(self.sessions) <= set(now.sessions):
            raise StoreError(f"{self.group}: was replaced after this query was made; open the store again")
        row = np.array([now.sessions.index(session) for session in self.sessions], np.intp)
        return row[trials // length] * length + trials % length

    def steady(self, read: Callable[[SubjectArrays], Read]) -> Read:
        """Call ``read`` with the current arrays, again if the store grew meanwhile.

        The first attempt takes these arrays for the current ones. A store only grows, so if they are the current ones
        afterwards, they were so meanwhile; in a bucket this saves two requests of six per coordinate.
        """
        return steady(self.current, read, guess=self)

    def read_coordinate(self, name: str, metadata: Mapping[str, Any]) -> NDArray[Any]:
        """A coordinate of the group as it was.

        Parameters
        ----------
        metadata : mapping
            Its metadata when these arrays were opened.

        Raises
        ------
        StoreError
            Its file is missing or damaged, or holds something else by now.
        """

        def read(now: SubjectArrays) -> NDArray[Any]:
            values = read_coordinate(now.group, name)
            if now is not self and metadata["dimension_names"] == ["trial"]:
                values = values[self.translate(np.arange(self.betas.shape[0]), now)]
            if (list(values.shape), values.dtype.name) != (metadata["shape"], metadata["data_type"]):
                raise StoreError(f"{now.group}/{name}: not what it was when the store was made; ingest again")
            return values

        return self.steady(read)


def steady(look: Callable[[], State], read: Callable[[State], Read], *, guess: State | None = None) -> Read:
    """Read what ``look`` finds, again where it finds something else afterwards: a store that grew meanwhile.

    Where a file system cannot exchange two names at once, a store has no name for a moment.

    Parameters
    ----------
    look : callable
        Returns the state of the store.
    read : callable
        Reads the store in a state.
    guess : State, optional
        The state to read first, without a look before; nothing is lost if it is not the current one.
    """
    if guess is not None:
        with suppress(StoreError):
            values = read(guess)
            if look() == guess:
                return values
    for pause_s in (0.05, 0.2, None):
        try:
            now = look()
        except StoreError:
            if pause_s is None:
                raise
            sleep(pause_s)
            continue
        try:
            values = read(now)
        except StoreError:
            if pause_s is None or look() == now:
                raise
            continue
        if pause_s is None or look() == now:
            return values
    raise StoreError("the store keeps changing; run again when nothing is added to it")


def read_node(url: str) -> dict[str, Any]:
    """Metadata of a group or an array.

    Raises
    ------
    StoreError
        They are missing or damaged.
    """
    try:
        return read_metadata(f"{url}/zarr.json")
    except FileNotFoundError:
        raise StoreError(f"{url}: missing; the store is incomplete, ingest again") from None


def _state(node: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    attributes = dict(node.get("attributes", {}))
    sessions = tuple(attributes.pop("sessions", ()))
    return sessions, json.dumps(attributes, sort_keys=True)


def _lasting(origin: str) -> dict[str, Any]:
    """Attributes of a group that stay when it gains sessions and coordinates; its list of coordinates does not."""
    attributes: dict[str, Any] = json.loads(origin)
    attributes.pop("coordinates", None)
    return attributes


def read_root(url: str) -> dict[str, Any]:
    """Metadata of a store, including those of all its groups and arrays.

    Raises
    ------
    MissingDataError
        Nothing is there, or only an unfinished build.
    StoreError
        They are damaged.
    """
    try:
        root = read_metadata(f"{url}/zarr.json")
    except (FileNotFoundError, NotADirectoryError):
        building = f"{url}.building"
        hint = f"{building} is an unfinished build of it, `nsdflow ingest` with the same settings continues"
        nothing = f"no store there; {hint if exists(building) else '`nsdflow ingest` makes one'}"
        raise MissingDataError(f"{url}: {not_wanted(url, STORE) or nothing}") from None
    check_seal(root, f"{url}/zarr.json", "ingest again")
    return root


def open_subject(root: Mapping[str, Any], store: str, group: str) -> tuple[SubjectArrays, xr.Dataset]:
    """Arrays and coordinates of a subject, by the metadata in the root; they are read again if the store has grown.

    Parameters
    ----------
    root : mapping
        Metadata of the store when it was opened.
    group : str
        ``"subj01"``.

    Raises
    ------
    StoreError
        The group is missing or damaged, or the root describes another one.
    """
    url = f"{store}/{group}"
    for _ in range(3):
        nodes = nodes_below(root, group) or _nodes_of_folder(url)
        arrays = SubjectArrays.parse(url, nodes)
        if arrays.current() is arrays:
            variables, attributes = late_coordinates(url, nodes[""], nodes, arrays.read_coordinate)
            attributes.pop("sessions", None)  # it would remain after a selection of some voxels
            return arrays, xr.Dataset(coords=trial_coordinates(variables), attrs=attributes)
        root = read_root(store)
    raise StoreError(f"{store}: its root does not describe {group}; it is damaged, ingest again")


def _nodes_of_folder(url: str) -> dict[str, Mapping[str, Any]]:
    """The same for a store without consolidated metadata."""
    names = [name for name in list_folder(url) if exists(f"{url}/{name}/zarr.json")]
    return {name: read_node(f"{url}/{name}".rstrip("/")) for name in ("", *names)}
