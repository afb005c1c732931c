"""Running a pipeline: resolve, plan, look, then execute; what ``nsdflow run`` and notebooks call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import xarray as xr

from nsdflow.cluster.connect import connect
from nsdflow.engine.driver_lock import holder, holding
from nsdflow.engine.execute import execute
from nsdflow.errors import ConfigError, RunError, StoreError
from nsdflow.monitor.events import Event, Listener, RunLog, make_event, subscribe
from nsdflow.monitor.performance import keep_performance
from nsdflow.pipelines.kinds import KINDS
from nsdflow.pipelines.load import load_pipeline
from nsdflow.pipelines.sequence import SequencePipeline
from nsdflow.runs import open_run
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import remove_parts
from nsdflow.store.build import is_taken

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.config.pipeline import PipelineBase
    from nsdflow.engine.plan import Plan

__all__ = ["resolve", "run", "run_folders"]


def run(
    pipeline: str | os.PathLike[str] | Mapping[str, Any],
    *,
    store: str,
    runs: str = "runs",
    client: Client | None = None,
    dry_run: bool = False,
    listen: Listener | None = None,
    **overrides: Any,
) -> xr.DataTree:
    """Run a pipeline on a store and return its labelled results.

    Calling it again continues what was interrupted, and returns at once what is finished.

    Parameters
    ----------
    pipeline
        Name of a shipped pipeline (``"gnet8j"``), a YAML file, or a mapping.
    store
        Path or URL of an nsdflow store.
    runs
        Folder that receives the run, under the pipeline's name.
    client
        Dask client; a local cluster for the duration of the call if None.
    dry_run
        Plan only: the tree is empty and its attribute ``plan`` is a table of tasks, bytes, memory and files.
    listen
        Called with events (stages, tasks, epochs) as they happen; they also go to ``log.jsonl``.
    **overrides
        Settings that differ from the pipeline's: ``train={"epochs": 2}`` or ``**{"train.epochs": 2}``.

    Returns
    -------
    xarray.DataTree
        ``/subj01`` ... with results by voxel, ``/history`` by epoch. A sequence gives one such tree a pipeline.

    Raises
    ------
    ConfigError
        Listing every mistake in the pipeline or the overrides.
    SelectionError
        If there is no such pipeline, or the store lacks a subject or ROI that it names.
    MissingDataError
        If there is no such store, or a run that the pipeline starts from is not there.
    PlanError
        If a task needs more memory, or more GPUs, than workers have.
    StoreError
        If the store is damaged, or the run folder cannot be written.
    RunError
        If the run folder holds a run with other settings, another command works on it, or a task failed.

    Examples
    --------
    >>> results = nsdflow.run("gnet8j", store="nsd.zarr", train={"epochs": 2})  # doctest: +SKIP
    >>> results["subj01"]["accuracy"].median()  # doctest: +SKIP
    """
    resolved = resolve(pipeline, _dotted(overrides))
    steps = _steps(resolved, store, runs)
    if dry_run:
        return xr.DataTree(xr.Dataset(attrs={"plan": "\n\n".join(_described(step, runs) for step in steps)}))
    trees: dict[str, xr.DataTree] = {}
    with ExitStack() as stack:
        for step in steps:
            folder, plan = _plan(step, runs)
            if folder.finished:
                folder.begin(step.pipeline, step.store)
                _tidy(folder)
            else:
                client = client or stack.enter_context(connect())
                _carry_out(step, folder, plan, client, listen)
            trees[step.pipeline.name] = open_run(folder.path)
    return xr.DataTree(children=trees) if isinstance(resolved, SequencePipeline) else trees[resolved.name]


def resolve(
    pipeline: str | os.PathLike[str] | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> PipelineBase:
    """A validated pipeline; for a sequence, ``{"gnet8j.train.epochs": 2}`` reaches into the steps of that name.

    It also reaches the steps of that name in sequences within the sequence, unless what is set for one of these,
    ``{"synthetic_transfer.gnet8j.train.epochs": 3}``, says otherwise.
    """
    resolved = load_pipeline(pipeline)
    if not isinstance(resolved, SequencePipeline):
        return load_pipeline(pipeline, overrides)
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {name: {} for name in _step_names(resolved)}
    for key, value in (overrides or {}).items():
        of_step, _, setting = key.partition(".")
        target, name = (inner[of_step], setting) if setting and of_step in inner else (own, key)
        target[name] = value
    steps = []
    for step in resolved.steps:
        within = load_pipeline(step.pipeline)
        names = _step_names(within) if isinstance(within, SequencePipeline) else ()
        passed = {f"{name}.{key}": value for name in names for key, value in inner.get(name, {}).items()}
        steps.append(step.model_copy(update={"set": {**step.set, **passed, **inner[step.pipeline]}}))
    return load_pipeline({**resolved.model_dump(mode="json"), "steps": [s.model_dump(mode="json") for s in steps]}, own)


def run_folders(pipeline: PipelineBase, runs: str) -> list[str]:
    """Where :func:`run` puts what a pipeline, or each step of a sequence, gives."""
    return [RunFolder.of(step.pipeline, runs).path for step in _steps(pipeline, "", runs)]


@dataclass(frozen=True)
class _Step:
    """A pipeline and the store that it runs on."""

    pipeline: PipelineBase
    store: str
    made_earlier: bool
    """The store is written by an earlier step."""


def _steps(pipeline: PipelineBase, store: str, runs: str) -> list[_Step]:
    """The pipelines of a sequence, all validated before the first runs.

    A step that appears again, word for word, is done once: its results are there the second time.

    Raises
    ------
    ConfigError
        If two different steps would put their results into the same folder.
    """
    steps: dict[str, _Step] = {}
    for step in _flat(pipeline, _Step(pipeline, store, made_earlier=False), runs):
        if steps.setdefault(step.pipeline.name, step) != step:
            raise ConfigError(
                pipeline.name, [f"two steps are called {step.pipeline.name} and differ; give one another name"]
            )
    return list(steps.values())


def _flat(pipeline: PipelineBase, outer: _Step, runs: str) -> Iterator[_Step]:
    """A sequence's steps, and those of sequences in it, which run on the store of the sequence unless they say."""
    if not isinstance(pipeline, SequencePipeline):
        yield replace(outer, pipeline=pipeline)
        return
    for step in pipeline.steps:
        own = replace(outer, store=f"{runs.rstrip('/')}/{step.store}", made_earlier=True) if step.store else outer
        yield from _flat(resolve(step.pipeline, step.set), own, runs)


def _step_names(sequence: SequencePipeline) -> tuple[str, ...]:
    """Pipelines that a sequence runs, and those of sequences in it."""
    names: dict[str, None] = {}
    for step in sequence.steps:
        names[step.pipeline] = None
        within = load_pipeline(step.pipeline)
        if isinstance(within, SequencePipeline):
            names |= dict.fromkeys(_step_names(within))
    return tuple(names)


def _described(step: _Step, runs: str) -> str:
    """The plan of a step, as far as it can be made before the steps ahead of it have run."""
    if step.made_earlier and not is_taken(step.store):
        kind = step.pipeline.kind
        return f"{step.pipeline.name}: {kind}\non {step.store}, which an earlier step writes; planned when it is there"
    return _plan(step, runs)[1].describe()


def _plan(step: _Step, runs: str) -> tuple[RunFolder, Plan]:
    folder = RunFolder.of(step.pipeline, runs)
    return folder, KINDS[step.pipeline.kind].plan(step.pipeline, store=step.store, folder=folder)


def _carry_out(step: _Step, folder: RunFolder, plan: Plan, client: Client, listen: Listener | None) -> None:
    """Execute one plan in its run folder, alone; everything that is reported also goes to ``log.jsonl``."""

    def tell(text: str) -> None:
        if listen is not None:
            listen(make_event("note", text=text))

    with holding(folder.url("driver"), tell=tell) as hold:
        folder.begin(step.pipeline, step.store)
        if folder.finished:  # by another command, since this one looked
            return
        with RunLog(folder.url("log.jsonl")) as log:

            def hear(event: Event) -> None:
                log(event)
                if listen is not None:
                    listen(event)

            with subscribe(client, hear), keep_performance(client, folder.url("performance.html")):
                execute(plan, client, listen=hear, hold=hold)
        remove_parts(folder.path)


def _tidy(folder: RunFolder) -> None:
    """Remove what a command left that died between its results and its end."""
    target = folder.url("driver")
    if holder(target) is not None:
        with suppress(RunError, StoreError), holding(target):  # one that lives does it itself; others may not
            remove_parts(folder.path)


def _dotted(overrides: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"train": {"epochs": 2}}`` -> ``{"train.epochs": 2}``, so that the rest of a section stays."""
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            flat |= _dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
