"""From a pipeline and overrides to the steps that run: one, or those of a sequence and of sequences within it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from nsdflow.config.documents import dotted
from nsdflow.config.pipeline import PipelineBase
from nsdflow.errors import ConfigError, RunError, SelectionError
from nsdflow.io.folders import exists
from nsdflow.io.paths import is_local, normalize
from nsdflow.io.places import RUNS, not_wanted
from nsdflow.pipelines.load import PipelineFiles
from nsdflow.pipelines.sequence import SequencePipeline
from nsdflow.runs.folder import RunFolder

__all__ = ["RunStep", "dotted", "resolve", "run_folders", "steps_of"]


@dataclass(frozen=True)
class RunStep:
    """A pipeline, the store that it runs on, and the folder of its run."""

    pipeline: PipelineBase
    store: str
    folder: RunFolder
    made_earlier: bool = False
    """Whether an earlier step writes the store."""


def resolve(
    pipeline: str | os.PathLike[str] | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> PipelineBase:
    """Load a pipeline with overrides.

    For a sequence, ``{"gnet8j.train.epochs": 2}`` applies to the steps of that name, also in sequences within the
    sequence, unless ``{"synthetic_transfer.gnet8j.train.epochs": 3}`` sets another value for those.

    Raises
    ------
    ConfigError, SelectionError
        As :func:`nsdflow.pipelines.load.load_pipeline`.
    """
    return _resolve(PipelineFiles(), pipeline, overrides or {})


def steps_of(
    pipeline: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Mapping[str, Any],
    *,
    store: str | os.PathLike[str],
    runs: str | os.PathLike[str],
) -> tuple[PipelineBase, list[RunStep]]:
    """Resolve a pipeline and list its steps. Every file is read once, and all steps are valid before one runs.

    A step that occurs twice with the same settings runs once. Nested overrides are flattened, and paths made absolute.

    Returns
    -------
    resolved : PipelineBase
        The pipeline, which may be a sequence.
    steps : list of RunStep
        In the order in which they run.

    Raises
    ------
    ConfigError
        A pipeline has mistakes, or two different steps would use the same run folder.
    SelectionError
        The store lacks subjects, ROIs or voxels that a pipeline names.
    RunError
        The folder of runs is a store or a run.
    """
    store, runs = normalize(store), normalize(runs)

    def check(one: PipelineBase) -> list[tuple[str, str]]:
        if RunFolder.of(one, runs).finished:
            return []
        from nsdflow.pipelines.common.misfits import misfits  # imports torch

        return misfits(one, store)

    if is_local(runs) and (exists(f"{runs}/zarr.json") or exists(f"{runs}/run.yaml")):
        raise RunError(f"{runs}: {not_wanted(runs, RUNS)}; choose another folder of runs")
    pipelines = PipelineFiles(check)
    resolved = _resolve(pipelines, pipeline, dotted(overrides))
    return resolved, _unique(_flat(pipelines, resolved, store, runs), resolved.name)


def run_folders(pipeline: PipelineBase, runs: str) -> list[str]:
    """Run folders of a pipeline, or of each step of a sequence."""
    return [step.folder.path for step in _unique(_flat(PipelineFiles(), pipeline, "", runs), pipeline.name)]


def _resolve(
    pipelines: PipelineFiles,
    pipeline: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Mapping[str, Any],
    *,
    fit: bool = True,
) -> PipelineBase:
    if not pipelines.is_sequence(pipeline):
        return pipelines.load(pipeline, overrides, fit=fit)
    resolved = pipelines.load(pipeline)
    assert isinstance(resolved, SequencePipeline)
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {name: {} for name in _step_names(pipelines, pipeline)}
    for key, value in overrides.items():
        of_step, _, setting = key.partition(".")
        target, name = (inner[of_step], setting) if setting and of_step in inner else (own, key)
        target[name] = value
    steps = []
    for step in resolved.steps:
        names = _step_names(pipelines, step.pipeline)
        passed = {f"{name}.{key}": value for name in names for key, value in inner.get(name, {}).items()}
        steps.append(step.model_copy(update={"set": {**step.set, **passed, **inner[step.pipeline]}}))
    whole = {**resolved.model_dump(mode="json"), "steps": [step.model_dump(mode="json") for step in steps]}
    misplaced = {key: advice for key in own if (advice := _meant_for_a_step(pipelines, key, inner)) is not None}
    problems = [f"--set {key}: {advice}" for key, advice in misplaced.items()]
    try:
        loaded = pipelines.load(whole, {key: value for key, value in own.items() if key not in misplaced})
    except ConfigError as error:
        raise ConfigError(resolved.name, [*error.problems, *problems]) from None
    if problems:
        raise ConfigError(resolved.name, problems)
    return loaded


def _meant_for_a_step(pipelines: PipelineFiles, key: str, steps: Iterable[str]) -> str | None:
    """What to write instead of a setting that a sequence does not have, but one of its steps; None if it has it."""
    first, dot, rest = key.partition(".")
    if first in SequencePipeline.model_fields:
        return None
    for step in steps:
        with suppress(ConfigError, SelectionError):  # a step with mistakes, which loading it tells
            if first in type(pipelines.load(step, fit=False)).model_fields:
                return f"{first} belongs to a step; write --set {step}.{key}=..."
    if dot and (near := get_close_matches(first, steps, n=1)):
        return f"no step is called {first}; did you mean --set {near[0]}.{rest}=...?"
    return f"neither the sequence nor a step has {first}; its steps are {', '.join(steps)}"


def _unique(steps: Iterator[RunStep], name: str) -> list[RunStep]:
    unique: dict[str, RunStep] = {}
    for step in steps:
        if unique.setdefault(step.pipeline.name, step) != step:
            raise ConfigError(name, [f"two steps are called {step.pipeline.name} and differ; rename one of them"])
    return list(unique.values())


def _flat(pipelines: PipelineFiles, pipeline: PipelineBase, store: str, runs: str) -> Iterator[RunStep]:
    yield from _within(pipelines, RunStep(pipeline, store, RunFolder.of(pipeline, runs)), runs)


def _within(pipelines: PipelineFiles, outer: RunStep, runs: str) -> Iterator[RunStep]:
    """The steps of a sequence; they run on its store unless they name another."""
    if not isinstance(outer.pipeline, SequencePipeline):
        yield outer
        return
    problems: list[str] = []
    for number, step in enumerate(outer.pipeline.steps, 1):
        try:
            pipeline = _resolve(pipelines, step.pipeline, step.set, fit=not (step.store or outer.made_earlier))
        except (ConfigError, SelectionError) as error:
            # the first of several lines states their number
            lines = error.problems if isinstance(error, ConfigError) else str(error).splitlines()
            told = [line.removeprefix("  - ") for line in lines if not line.endswith(" problems")]
            problems += [f"step {number}, {step.pipeline}: {line.removeprefix(f'{step.pipeline}: ')}" for line in told]
            continue
        inner = replace(outer, pipeline=pipeline, folder=RunFolder.of(pipeline, runs))
        if step.store:
            inner = replace(inner, store=f"{runs.rstrip('/')}/{step.store}", made_earlier=True)
        yield from _within(pipelines, inner, runs)
    if problems:
        raise ConfigError(outer.pipeline.name, problems)


def _step_names(pipelines: PipelineFiles, pipeline: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """Pipelines that a sequence and the sequences within it run; none for another pipeline."""
    if not pipelines.is_sequence(pipeline):
        return ()
    sequence = pipelines.load(pipeline)
    assert isinstance(sequence, SequencePipeline)
    names: dict[str, None] = {}
    for step in sequence.steps:
        names |= dict.fromkeys([step.pipeline, *_step_names(pipelines, step.pipeline)])
    return tuple(names)
