"""Running and planning of pipelines: ``nsdflow run``, :func:`nsdflow.run` and :func:`nsdflow.plan`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import xarray as xr

from nsdflow.engine.driver_lock import holder, holding
from nsdflow.engine.plan import Plan
from nsdflow.engine.session import clients
from nsdflow.errors import MissingDataError, RunError, StoreError
from nsdflow.io.folders import remove
from nsdflow.io.paths import normalize
from nsdflow.monitor.progress import Listen, progress
from nsdflow.pipelines.kinds import KINDS
from nsdflow.pipelines.sequence import SequencePipeline
from nsdflow.pipelines.steps import RunStep, resolve, run_folders, steps_of
from nsdflow.runs import open_run
from nsdflow.runs.identity import made_on_other_data
from nsdflow.runs.parts import remove_parts
from nsdflow.store.build import is_taken

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.config.pipeline import PipelineBase
    from nsdflow.monitor.events import Event, Listener
    from nsdflow.runs.folder import RunFolder

__all__ = ["check_runs", "plan", "plan_steps", "resolve", "run", "run_folders", "run_steps"]


def run(
    pipeline: str | os.PathLike[str] | Mapping[str, Any],
    *,
    store: str | os.PathLike[str],
    runs: str | os.PathLike[str] = "runs",
    cluster: str | Client = "local",
    client: Client | Callable[[], Client] | None = None,
    listen: Listen = "auto",
    **overrides: Any,
) -> xr.DataTree:
    """Run a pipeline on a store and return its labelled results.

    The same call continues an interrupted run, and returns the results of a finished one at once, without a cluster.

    Parameters
    ----------
    pipeline : str, path or mapping
        Name of a shipped pipeline (``"gnet8j"``), a YAML file, or its contents.
    store : str or path
        Path or URL of an nsdflow store.
    runs : str or path
        Folder of the runs. The run folder inside it has the name of the pipeline.
    cluster : str or distributed.Client
        ``"local"`` (worker processes on this machine), ``"threads"`` (in this process), a batch system such as
        ``"slurm"``, the address of a running scheduler, or a client.
    client : distributed.Client or callable, optional
        A client to use instead of ``cluster``, or a function that starts one, called once something has to run.
    listen : callable, "auto" or None
        Receives events (stages, tasks, epochs) as they happen; they also go to ``log.jsonl``. ``"auto"`` shows them as
        bars below the cell of a notebook, and on stderr elsewhere. None shows nothing.
    **overrides
        Settings that differ from the pipeline's: ``train={"epochs": 2}`` or ``**{"train.epochs": 2}``.

    Returns
    -------
    xarray.DataTree
        Results by voxel in ``/subj01`` ..., and by epoch in ``/history``. A sequence gives one such tree per pipeline.

    Raises
    ------
    ConfigError
        Lists every mistake in the pipeline or the overrides.
    SelectionError
        There is no such pipeline, or the store lacks a subject or ROI that the pipeline names.
    MissingDataError
        There is no such store, or a run that the pipeline builds on is missing.
    PlanError
        A task needs more memory, or more GPUs, than workers have.
    StoreError
        The store is damaged, or the run folder cannot be written.
    RunError
        The run folder holds a run with other settings, another command works on it, or a task failed.

    Examples
    --------
    >>> results = nsdflow.run("gnet8j", store="nsd.zarr", cluster="slurm", train={"epochs": 2})  # doctest: +SKIP
    >>> results["subj01"]["accuracy"].median()  # doctest: +SKIP
    """
    resolved, steps = steps_of(pipeline, overrides, store=store, runs=runs)
    return run_steps(resolved, steps, cluster=cluster, client=client, listen=listen)


def run_steps(
    resolved: PipelineBase,
    steps: Sequence[RunStep],
    *,
    cluster: str | Client = "local",
    client: Client | Callable[[], Client] | None = None,
    listen: Listen = "auto",
) -> xr.DataTree:
    """Run the steps of a pipeline that :func:`nsdflow.pipelines.steps.steps_of` resolved; otherwise as :func:`run`."""
    check_runs(steps)
    # mistakes of any step are reported before a cluster starts; earlier steps may change the plan of a later one
    plans = {step.folder.path: _plan_or_note(step) for step in steps if not step.folder.finished}
    first = next(iter(plans), None)
    trees: dict[str, xr.DataTree] = {}
    with progress(listen) as hear, clients(cluster, client, listen=hear) as get_client:
        for step in steps:
            if step.folder.finished:
                step.folder.begin(step.pipeline, step.store)
                _remove_leftovers(step.folder)
            else:
                path = step.folder.path
                _carry_out(step, plans[path] if path == first else _plan(step), get_client(), hear)
            trees[step.pipeline.name] = open_run(step.folder.path)
    return xr.DataTree(children=trees) if isinstance(resolved, SequencePipeline) else trees[resolved.name]


def plan(
    pipeline: str | os.PathLike[str] | Mapping[str, Any],
    *,
    store: str | os.PathLike[str],
    runs: str | os.PathLike[str] = "runs",
    cluster: str | None = None,
    **overrides: Any,
) -> Plan:
    """Plan a pipeline without running it: tasks, bytes, files and peak memory per task.

    Parameters
    ----------
    pipeline : str, path or mapping
        Name of a shipped pipeline (``"gnet8j"``), a YAML file, or its contents.
    store : str or path
        Path or URL of an nsdflow store.
    runs : str or path
        Folder of the runs.
    cluster : str, optional
        Cluster whose workers the plan must fit, as for :func:`run`. The plan is not checked against workers if None.
    **overrides
        Settings that differ from the pipeline's, as for :func:`run`.

    Returns
    -------
    Plan
        ``print(plan.describe())`` shows it, ``plan.missing()`` lists the unfinished tasks. The plan of a sequence has
        the plans of its pipelines in ``plan.steps``.

    Raises
    ------
    ConfigError, SelectionError, MissingDataError, StoreError, RunError
        As for :func:`run`.
    PlanError
        The plan does not fit the cluster.

    Examples
    --------
    >>> print(nsdflow.plan("gnet8j", store="nsd.zarr").describe())  # doctest: +SKIP
    """
    resolved, steps = steps_of(pipeline, overrides, store=store, runs=runs)
    whole = plan_steps(resolved, steps, normalize(runs))
    if cluster is not None:
        from nsdflow.cluster.connect import capacity

        limits = capacity(cluster)
        whole.validate(limits.memory, limits.gpu_workers)
    return whole


def plan_steps(resolved: PipelineBase, steps: Sequence[RunStep], runs: str) -> Plan:
    """Plan the steps of a resolved pipeline; otherwise as :func:`plan`."""
    for step in steps:
        _check_folder(step)
    plans = tuple(_plan_or_note(step) for step in steps)
    return Plan(resolved.name, runs, (), steps=plans) if isinstance(resolved, SequencePipeline) else plans[0]


def _check_folder(step: RunStep) -> None:
    """Check that the run folder holds no other run."""
    if not step.made_earlier or is_taken(step.store):
        step.folder.check(step.pipeline, step.store)


def check_runs(steps: Iterable[RunStep]) -> None:
    """Check run folders and inputs of steps: earlier runs are finished or made by a step before, and files are there.

    Parameters
    ----------
    steps : iterable of RunStep
        As :func:`nsdflow.pipelines.steps.steps_of` lists them.

    Raises
    ------
    RunError
        A run folder holds another run.
    MissingDataError
        A run that a step starts from is missing, or not finished; or a file of weights is missing.
    """
    made: set[str] = set()
    for step in steps:
        _check_folder(step)
        if not step.folder.finished:
            from nsdflow.pipelines.needs import check_weights  # imports torch

            check_weights(step.pipeline)
        for name in () if step.folder.finished else step.pipeline.earlier_runs():
            earlier = step.folder.sibling(name)
            if earlier.path not in made and not earlier.finished:
                what = "no finished run" if earlier.exists("run.yaml") else "no such run"
                raise MissingDataError(
                    f"{earlier.path}: {what}; do nsdflow run first, {step.pipeline.name} starts from it"
                )
        made.add(step.folder.path)


def _plan_or_note(step: RunStep) -> Plan:
    """The plan of a step, or a plan with a note only if an earlier step writes its store."""
    if step.made_earlier and not is_taken(step.store):
        note = f"on {step.store}, which an earlier step writes; planned when it is there"
        return Plan(f"{step.pipeline.name}: {step.pipeline.kind}", step.folder.path, (), notes=(note,))
    return _plan(step)


def _plan(step: RunStep) -> Plan:
    return KINDS[step.pipeline.kind].plan(step.pipeline, store=step.store, folder=step.folder)


def _carry_out(step: RunStep, plan: Plan, client: Client, listen: Listener | None) -> None:
    """Execute one plan in its run folder, under its lock; all events also go to ``log.jsonl``."""
    from nsdflow.engine.execute import execute
    from nsdflow.monitor.events import RunLog, make_event, subscribe
    from nsdflow.monitor.performance import keep_performance
    from nsdflow.runs.card import write_card

    folder = step.folder

    def tell(text: str) -> None:
        if listen is not None:
            listen(make_event("note", text=text))

    with holding(folder.url("driver"), tell=tell) as hold:
        folder.begin(step.pipeline, step.store)
        for name in step.pipeline.earlier_runs():
            if made_on_other_data(earlier := folder.sibling(name).path, step.store):
                tell(f"{earlier} was made on other data than {step.store} holds now; {folder.name} uses both")
        if folder.finished:  # another command finished it meanwhile
            return
        if not plan.missing():  # all tasks are done, and the results were deleted
            tell(f"{folder.path}: no results although all tasks are done; they were deleted, and run again")
            remove(folder.url("tasks"))
        with RunLog(folder.url("log.jsonl")) as log:

            def hear(event: Event) -> None:
                log(event)
                if listen is not None:
                    listen(event)

            with subscribe(client, hear), keep_performance(client, folder.url("performance.html")):
                execute(plan, client, listen=hear, hold=hold)
        write_card(folder.path)
        remove_parts(folder.path)


def _remove_leftovers(folder: RunFolder) -> None:
    """Remove files of a command that died after it published its results and before it ended."""
    target = folder.url("driver")
    if holder(target) is not None:
        with suppress(RunError, StoreError), holding(target):  # a running command removes its own files
            remove_parts(folder.path)
