"""The contents of a finished run, read once for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsdflow.analysis.summary import subject_results
from nsdflow.io.folders import exists
from nsdflow.io.paths import normalize
from nsdflow.monitor.events import Event, read_log
from nsdflow.runs import open_run
from nsdflow.runs.folder import RunFolder, read_record

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import xarray as xr

__all__ = ["Run", "read_run"]


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: str
    """Path or URL."""
    record: Mapping[str, Any]
    """``run.yaml``."""
    results: xr.DataTree
    events: tuple[Event, ...]
    """``log.jsonl``, empty without one."""

    @property
    def name(self) -> str:
        """Name of the pipeline, or of the folder."""
        pipeline = self.record.get("pipeline", {})
        return str(pipeline.get("name", self.folder.rpartition("/")[2]))

    def subjects(self) -> dict[str, xr.Dataset]:
        """Results by voxel of each subject."""
        return dict(subject_results(self.results))

    def sibling(self, name: str) -> xr.DataTree:
        """Results of another run in the same folder."""
        return open_run(RunFolder(self.folder).sibling(name).path)

    def has(self, needed: str) -> bool:
        """Whether the results contain a variable or coordinate: ``"transfer/alpha"``, or ``"accuracy"`` of any subject.

        ``"../gnet8j"`` asks for the results of another run in the same folder.
        """
        group, _, name = needed.rpartition("/")
        if group == "..":
            return RunFolder(self.folder).sibling(name).finished
        if group:
            return group in self.results.children and name in self.results[group].dataset
        return any(name in subject or name in subject.coords for subject in self.subjects().values())


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run's record and log, and open its results.

    Raises
    ------
    MissingDataError
        There is no run, or it has no results yet.
    RunError
        ``run.yaml`` is damaged. Without the file, the record is empty.
    """
    path = normalize(folder)
    results, log = open_run(path).map_over_datasets(_with_coordinates), f"{path}/log.jsonl"
    record = read_record(path) if exists(f"{path}/run.yaml") else {}  # write_results alone makes none
    return Run(path, record, results, tuple(read_log(log)) if exists(log) else ())


def _with_coordinates(data: xr.Dataset) -> xr.Dataset:
    """The coordinates in memory: every figure compares them, and each would read some seventy arrays again."""
    return data.assign_coords({name: values.load() for name, values in data.coords.items() if name not in data.indexes})
