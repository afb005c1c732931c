"""Plans as pure data: everything that nsdflow runs on Dask is a :class:`Plan` first.

A plan lists tasks: a module-level function with a stable name and version, a frozen record as its only argument, the
tasks it waits for, and its cost. A plan can be printed (:meth:`Plan.describe`), refused (:meth:`Plan.validate`) and
executed (:func:`nsdflow.engine.execute.execute`). A task is done when its done-marker, written last by the worker that
ran it, names the same task, version and record. Executing a plan again therefore runs exactly what is missing.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_type_hints

from pydantic import TypeAdapter

from nsdflow.engine import markers
from nsdflow.engine.memory import Memory
from nsdflow.errors import PlanError
from nsdflow.io.text import format_bytes

__all__ = ["JSON", "Call", "Plan", "Task", "TaskName", "publication", "task", "task_name"]

#: Types that pass through the scheduler: names, numbers and paths.
JSON = Any
_NAME: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_ATTRIBUTE: Final = "__nsdflow_task__"
Function = TypeVar("Function", bound=Callable[..., JSON])


class TaskName(NamedTuple):
    """Stable identity of what a task computes."""

    name: str
    """Dotted, for example ``"ingest.session"``."""
    version: int
    """Raised whenever the same record gives another result."""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def task(name: str, *, version: int) -> Callable[[Function], Function]:
    """Give a task function its stable name and version.

    The function takes one argument, a frozen dataclass or pydantic model whose fields are JSON values, and returns a
    small JSON value. Moving or renaming the function changes nothing; raising ``version`` makes finished tasks run
    again.

    Parameters
    ----------
    name : str
        Dotted name, unique in the package.
    version : int
        Starts at 1.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Square:
    ...     number: int
    >>> @task("examples.square", version=1)
    ... def square(job: Square) -> int:
    ...     return job.number**2
    >>> str(task_name(square))
    'examples.square/1'
    """
    if not _NAME.fullmatch(name) or version < 1:
        raise ValueError(f"{name!r}, version {version}: expected a dotted name in lower case and a version from 1")

    def named(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, TaskName(name, version))
        return function

    return named


def task_name(function: Callable[..., JSON]) -> TaskName | None:
    """Return the name that :func:`task` gave to a function, or None."""
    return getattr(function, _ATTRIBUTE, None)


@lru_cache(maxsize=256)
def _adapter(function: Callable[..., JSON]) -> TypeAdapter[Any]:
    """Converter between the record that a task function takes and JSON."""
    (parameter,) = inspect.signature(function).parameters.values()
    return TypeAdapter(get_type_hints(function)[parameter.name])


@dataclass(frozen=True, slots=True)
class Call:
    """A task as it travels to a worker: names, numbers and paths only."""

    key: str
    fingerprint: str
    function: Callable[..., JSON]
    job: Any

    def __call__(self) -> JSON:
        return self.function(self.job)


@dataclass(frozen=True)
class Task:
    """One unit of work: a function, its record, the tasks it waits for, and its cost."""

    key: str
    """Unique in the plan and safe as a file name, for example ``betas-subj01-session03``."""
    function: Callable[..., JSON]
    """Module-level function marked by :func:`task`. Its result (small, JSON) is kept in the done-marker."""
    job: Any
    """The function's argument: a frozen record of paths, names and numbers. No arrays, modules or open files."""
    stage: str
    """Tasks of a stage share a progress bar."""
    after: tuple[str, ...] = ()
    """Keys of the tasks that must be done first."""
    pool: Literal["cpu", "gpu"] = "cpu"
    together: int = 1
    """Number of tasks like this one that must run at the same time, each on its own worker."""
    memory: int = 0
    """Planned peak memory in bytes; a :class:`~nsdflow.engine.memory.Memory` also has its terms."""
    smaller: tuple[tuple[str, int], ...] = ()
    """Settings that reduce the memory of the task, each with the reduced number of bytes, the mildest first."""
    reads: int = 0
    """Bytes read."""
    writes: int = 0
    """Bytes written."""
    files: int = 0
    """Files left behind."""

    def __post_init__(self) -> None:
        if task_name(self.function) is None:
            raise TypeError(f'{self.key}: mark {self.function.__qualname__} with @task("name", version=1)')

    @cached_property
    def payload(self) -> JSON:
        """The record as JSON values.

        Raises
        ------
        TypeError
            A field of the record is lost, because the annotation of the function's parameter lacks it.
        """
        adapter = _adapter(self.function)
        payload = adapter.dump_python(self.job, mode="json")
        if adapter.validate_python(payload) != self.job:
            raise TypeError(f"{self.key}: {type(self.job).__name__} does not survive JSON; annotate its fields exactly")
        return payload

    @cached_property
    def fingerprint(self) -> str:
        """Identity of task name, version and record; a done-marker with another one does not count."""
        text = json.dumps([str(task_name(self.function)), self.payload], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def call(self) -> Call:
        """The task as it travels to a worker."""
        return Call(self.key, self.fingerprint, self.function, self.job)


def publication(function: Callable[..., JSON], job: Any, after: Iterable[Task], *, memory: int) -> Task:
    """The last task of a plan, which waits for others and publishes their results."""
    return Task("publish", function, job, "publish", after=tuple(one.key for one in after), memory=memory)


@dataclass(frozen=True)
class Plan:
    """Tasks in an order in which each follows the tasks it waits for."""

    title: str
    folder: str
    """Where the done-markers live (a path or URL)."""
    tasks: tuple[Task, ...]
    file_budget: int | None = None
    """Largest number of files."""
    notes: tuple[str, ...] = field(default=())
    """Lines to print below the table."""
    steps: tuple[Plan, ...] = ()
    """Plans of a sequence of pipelines, which has no tasks itself."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for task in self.tasks:
            if task.key in seen:
                raise PlanError(f"{self.title}: two tasks are called {task.key}")
            if unknown := set(task.after) - seen:
                raise PlanError(f"{self.title}: {task.key} waits for {sorted(unknown)}, not planned before it")
            seen.add(task.key)

    @property
    def name(self) -> str:
        """Name of the run folder, or of the store that is built."""
        return self.folder.rstrip("/").rpartition("/")[2].removesuffix(".building")

    def stages(self) -> dict[str, list[Task]]:
        """Tasks by stage, in the order of first appearance."""
        stages: dict[str, list[Task]] = {}
        for task in self.tasks:
            stages.setdefault(task.stage, []).append(task)
        return stages

    def describe(self) -> str:
        """A table of the tasks, bytes read and written, files, and peak memory per task, by stage."""
        if self.steps:
            return "\n\n".join(step.describe() for step in self.steps)
        if not self.tasks:
            return "\n".join([self.title, *self.notes])
        header = ("stage", "tasks", "pool", "reads", "writes", "files", "peak memory per task")
        rows = [header]
        for stage, tasks in self.stages().items():
            rows.append(
                (
                    stage,
                    str(len(tasks)),
                    "+".join(sorted({task.pool for task in tasks})),
                    format_bytes(sum(task.reads for task in tasks)),
                    format_bytes(sum(task.writes for task in tasks)),
                    str(sum(task.files for task in tasks)),
                    format_bytes(max(task.memory for task in tasks)),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        budget = f" (budget {self.file_budget})" if self.file_budget is not None else ""
        total = f"total: {len(self.tasks)} tasks, {sum(task.files for task in self.tasks)} files{budget}"
        return "\n".join([self.title, *(line.rstrip() for line in lines), total, *self.notes])

    def validate(self, memory_limit: int | None = None, workers: int | None = None) -> None:
        """Raise if the plan cannot fit.

        Raises
        ------
        PlanError
            A task's planned peak exceeds ``memory_limit`` (bytes per worker), more tasks have to run at once than
            there are ``workers`` that can take one of their pool, or if the files exceed the budget.
        """
        for step in self.steps:
            step.validate(memory_limit, workers)
        for task in self.tasks:
            if workers is not None and task.together > max(1, workers):
                raise PlanError(
                    f"{self.title}: {task.together} {task.pool.upper()} workers train together, and there can be "
                    f"{workers}; use more workers, or set processes={max(1, workers)}"
                )
            if memory_limit and task.memory > memory_limit:
                terms = f" ({task.memory.explain()})" if isinstance(task.memory, Memory) else ""
                raise PlanError(
                    f"{self.title}: {task.key} needs {format_bytes(task.memory)}{terms} but a worker has "
                    f"{format_bytes(memory_limit)}; {_advice(task, memory_limit)}"
                )
        files = sum(task.files for task in self.tasks)
        if self.file_budget is not None and files > self.file_budget:
            raise PlanError(
                f"{self.title}: {files} files planned, {self.file_budget} allowed; "
                "raise the file budget or the shard size"
            )

    def missing(self) -> tuple[Task, ...]:
        """Tasks without a valid done-marker or with damaged files, and all that wait for one of them."""
        found = markers.read_markers(self.folder)
        done = {
            task.key: found[task.key]
            for task in self.tasks
            if found.get(task.key, {}).get("fingerprint") == task.fingerprint
        }
        damaged = markers.damaged(self.folder, done)
        missing: dict[str, Task] = {}
        for task in self.tasks:
            if task.key not in done or task.key in damaged or any(key in missing for key in task.after):
                missing[task.key] = task
        return tuple(missing.values())


def _advice(task: Task, memory_limit: int) -> str:
    """What to write instead of a task that does not fit."""
    for settings, needed in task.smaller:
        if needed <= memory_limit:
            return f"set {settings}, which needs {format_bytes(needed)}, or use fewer or larger workers"
    if task.smaller:
        settings, needed = task.smaller[-1]
        return f"use fewer or larger workers: with {settings} it still needs {format_bytes(needed)}"
    return "use fewer or larger workers, or a smaller voxel set"
