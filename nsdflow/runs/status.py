"""``nsdflow status``: progress of runs and ingestions from their files, whether or not they are running."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from nsdflow.engine import markers
from nsdflow.engine.driver_lock import holder
from nsdflow.errors import MissingDataError
from nsdflow.io.folders import exists, list_folder
from nsdflow.monitor.events import read_log
from nsdflow.monitor.state import LiveState, format_duration
from nsdflow.runs.folder import RunFolder

__all__ = ["Status", "read_status"]

#: Number of news lines (failures, lost jobs) per run.
STATUS_LINES = 5


@dataclass(frozen=True)
class Status:
    """The state of one run or one store."""

    title: str
    finished: bool
    tables: tuple[Sequence[Mapping[str, str]], ...] = ()
    """Rows of text: stages, trainings, accuracy by subject, jobs by pool; as on the dashboard."""
    news: tuple[str, ...] = ()
    """Latest failures, newest first."""

    def describe(self) -> str:
        """The state as text for a terminal."""
        tables = [_aligned(rows) for rows in self.tables if rows]
        return "\n\n".join(
            [self.title, *tables, *(["\n".join(f"  {line}" for line in self.news)] if self.news else [])]
        )


def read_status(folder: str, now: float | None = None) -> list[Status]:
    """The status of a run, of each run of a folder of runs, or of a store that is being built.

    Parameters
    ----------
    now : float, optional
        Time from which ages are counted, in seconds since 1970; by default the current time.

    Raises
    ------
    MissingDataError
        The folder is none of these.
    """
    now = time.time() if now is None else now
    place = folder.rstrip("/")
    building = f"{place.removesuffix('.building')}.building"
    if exists(f"{place}/run.yaml"):
        return [_run(place, now)]
    runs = [name for name in list_folder(place) if exists(f"{place}/{name}/run.yaml")]
    if runs:
        return [_run(f"{place}/{name}", now) for name in runs]
    if exists(building):
        title = "; ".join([f"{building}: being built", *_driver(building.removesuffix(".building"))])
        return [Status(title, finished=False, tables=(_stages(building),))]
    if exists(f"{place}/zarr.json"):
        return [Status(f"{place}: a published store", finished=True)]
    raise MissingDataError(f"{place}: neither a run, nor a folder of runs, nor a store being built")


def _run(path: str, now: float) -> Status:
    folder = RunFolder(path)
    record, finished = folder.record(), folder.finished
    events = read_log(folder.url("log.jsonl")) if folder.exists("log.jsonl") else []
    live = LiveState()
    for event in events:
        with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError):  # not ours
            live.take(event)
    state = ["finished"] if finished else ["not finished"]
    driver = [] if finished else _driver(f"{path}/driver")
    if not finished:
        state += [f"last sign of life {format_duration(now - events[-1]['time'])} ago"] if events else []
        state += driver or ["no command works on it, the same one continues"]
    trainings = live.training_rows(now)
    if finished:  # a finished run has no jobs, and the age of its checkpoint is meaningless
        trainings = [{key: cell for key, cell in row.items() if key not in PASSING} for row in trainings]
    return Status(
        title=f"{path}: {record['pipeline'].get('kind')} pipeline of {record.get('created')}, {'; '.join(state)}",
        finished=finished,
        tables=(
            _stages(path),
            trainings,
            live.subject_rows(),
            [] if not driver or driver[0].endswith("died") else live.job_rows(),  # jobs end with their driver
        ),
        news=() if finished else tuple(live.news[:STATUS_LINES]),
    )


#: Columns of trainings that have a meaning only while the trainings run.
PASSING = ("time left", "checkpoint age", "worker")


def _driver(target: str) -> list[str]:
    """A line about the driver of a target, if there is one."""
    line = holder(target)
    return [] if line is None else [line]


def _stages(folder: str) -> list[dict[str, str]]:
    """Finished tasks by stage, counted from the markers that also count when a command is repeated."""
    stages = markers.count_finished(folder)
    return [{"stage": stage, "tasks": f"{done} / {total}"} for stage, (done, total) in stages.items()]


def _aligned(rows: Sequence[Mapping[str, str]]) -> str:
    """Columns of equal width, indented, below their titles."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
