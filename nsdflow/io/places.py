"""Describes in words what lies at a path or URL, for messages about a path where something else is expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from nsdflow.io.folders import exists, list_folder

__all__ = ["NSD", "RUN", "RUNS", "STORE", "not_wanted"]

STORE: Final = "a store"
RUN: Final = "a run"
NSD: Final = "NSD"
_RESULTS: Final = "the results of a run"
RUNS: Final = "a folder of runs"

#: A message lists at most this many runs of a folder.
LISTED_RUNS: Final = 5


def not_wanted(url: str, wanted: str) -> str | None:
    """Describe what lies at a path, why it is not the expected thing, and what to do.

    Parameters
    ----------
    url : str
        Path or URL where something else was expected.
    wanted : str
        What was expected: ``STORE``, ``RUN``, ``RUNS``, ``NSD``, or other words.

    Returns
    -------
    str or None
        None if nothing of nsdflow or NSD is there, or the expected thing is.

    Examples
    --------
    >>> not_wanted("nsd.zarr", RUN)  # doctest: +SKIP
    "a store, not a run; `nsdflow info nsd.zarr` tells its content"
    """
    place = url.rstrip("/")
    found = next((what for what, is_there in _MARKS.items() if is_there(place)), None)
    return None if found in (None, wanted) else f"{found}, not {wanted}; {_ADVICE[found](place, wanted)}"


def _is_run(place: str) -> bool:
    return exists(f"{place}/run.yaml") or exists(f"{place}/results.zarr")


def _runs_in(place: str) -> list[str]:
    return [name for name in list_folder(place) if _is_run(f"{place}/{name}")]


def _is_results(place: str) -> bool:
    return place.rpartition("/")[2] == "results.zarr" and exists(f"{place}/zarr.json")


def _some(names: list[str]) -> str:
    return ", ".join([*names[:LISTED_RUNS], *(["..."] if len(names) > LISTED_RUNS else [])])


#: How each kind of thing is recognised; the first match counts.
_MARKS: Final[Mapping[str, Callable[[str], bool]]] = {
    RUN: _is_run,
    _RESULTS: _is_results,
    STORE: lambda place: exists(f"{place}/zarr.json"),
    NSD: lambda place: exists(f"{place}/nsddata_betas") or exists(f"{place}/nsddata"),
    RUNS: lambda place: bool(_runs_in(place)),
}
#: What to do with a thing where another is expected.
_ADVICE: Final[Mapping[str, Callable[[str, str], str]]] = {
    RUN: lambda place, _: f"`nsdflow info {place}` tells its content and its store",
    _RESULTS: lambda place, _: f"the run is {place.rpartition('/')[0] or '.'}",
    STORE: lambda place, _: f"`nsdflow info {place}` tells its content",
    NSD: lambda place, _: f"`nsdflow ingest --source {place}` makes a store of it",
    RUNS: lambda place, _: f"it has {_some(_runs_in(place))}",
}
