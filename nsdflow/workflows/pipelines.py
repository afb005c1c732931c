"""Running a pipeline: resolve, plan, look, then execute; what ``nsdflow run`` and notebooks call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import xarray as xr

from nsdflow.cluster.connect import connect
from nsdflow.cluster.events import Event, Listener, RunLog, make_event, subscribe
from nsdflow.cluster.hold import holder, holding
from nsdflow.cluster.performance import keep_performance
from nsdflow.config import SequencePipeline, load_pipeline
from nsdflow.errors import RunError, StoreError
from nsdflow.store import open_run
from nsdflow.workflows.engine import Plan, execute
from nsdflow.workflows.parts import remove_parts
from nsdflow.workflows.runfolder import RunFolder

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.config.pipeline import PipelineBase

__all__ = ["resolve", "run", "run_folders"]

#: Module and function that plan each kind of pipeline, imported when one is planned. A plan's last task publishes
#: ``results.zarr`` in the run folder.
PLANNERS: Mapping[str, tuple[str, str]] = {
    "gnet": ("nsdflow.workflows.gnet", "plan_gnet"),
    "transfer": ("nsdflow.workflows.transfer", "plan_transfer"),
    "fwrf": ("nsdflow.workflows.fwrf", "plan_fwrf"),
    "fpf": ("nsdflow.workflows.fpf", "plan_fpf"),
    "predict": ("nsdflow.workflows.predict", "plan_predict"),
    "tables": ("nsdflow.workflows.tables", "plan_tables"),
    "tuning": ("nsdflow.workflows.tuning", "plan_tuning"),
}


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
    RunError
        If the run folder holds a run with other settings, another command works on it, or a task failed.

    Examples
    --------
    >>> results = nsdflow.run("gnet8j", store="nsd.zarr", train={"epochs": 2})  # doctest: +SKIP
    >>> results["subj01"]["accuracy"].median()  # doctest: +SKIP
    """
    resolved = resolve(pipeline, _dotted(overrides))
    steps = list(_steps(resolved))
    if dry_run:
        plans = [_plan(step, store, runs)[1].describe() for step in steps]
        return xr.DataTree(xr.Dataset(attrs={"plan": "\n\n".join(plans)}))
    trees: dict[str, xr.DataTree] = {}
    with ExitStack() as stack:
        for step in steps:
            folder, plan = _plan(step, store, runs)
            if folder.finished:
                folder.begin(step, store)
                _tidy(folder)
            else:
                client = client or stack.enter_context(connect())
                _carry_out(step, store, folder, plan, client, listen)
            trees[step.name] = open_run(folder.path)
    return xr.DataTree(children=trees) if isinstance(resolved, SequencePipeline) else trees[resolved.name]


def resolve(
    pipeline: str | os.PathLike[str] | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> PipelineBase:
    """A validated pipeline; for a sequence, ``{"gnet8j.train.epochs": 2}`` reaches into the step of that name."""
    resolved = load_pipeline(pipeline)
    if not isinstance(resolved, SequencePipeline):
        return load_pipeline(pipeline, overrides)
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {step.pipeline: {} for step in resolved.steps}
    for key, value in (overrides or {}).items():
        step, _, setting = key.partition(".")
        target, name = (inner[step], setting) if setting and step in inner else (own, key)
        target[name] = value
    steps = [{"pipeline": step.pipeline, "set": {**step.set, **inner[step.pipeline]}} for step in resolved.steps]
    return load_pipeline({**resolved.model_dump(mode="json"), "steps": steps}, own)


def run_folders(pipeline: PipelineBase, runs: str) -> list[str]:
    """Where :func:`run` puts what a pipeline, or each step of a sequence, gives."""
    return [RunFolder.of(step, runs).path for step in _steps(pipeline)]


def _steps(pipeline: PipelineBase) -> Iterator[PipelineBase]:
    """The pipelines of a sequence, all validated before the first runs."""
    if isinstance(pipeline, SequencePipeline):
        for step in pipeline.steps:
            yield from _steps(resolve(step.pipeline, step.set))
    else:
        yield pipeline


def _plan(pipeline: PipelineBase, store: str, runs: str) -> tuple[RunFolder, Plan]:
    folder = RunFolder.of(pipeline, runs)
    module, function = PLANNERS[pipeline.kind]
    plan: Plan = getattr(import_module(module), function)(pipeline, store=store, folder=folder)
    return folder, plan


def _carry_out(
    step: PipelineBase, store: str, folder: RunFolder, plan: Plan, client: Client, listen: Listener | None
) -> None:
    """Execute one plan in its run folder, alone; everything that is reported also goes to ``log.jsonl``."""

    def tell(text: str) -> None:
        if listen is not None:
            listen(make_event("note", text=text))

    with holding(folder.url("driver"), tell=tell) as hold:
        folder.begin(step, store)
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
