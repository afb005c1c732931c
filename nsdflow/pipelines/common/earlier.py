"""Settings, subjects and voxels of an earlier run that a pipeline builds on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nsdflow.config.pipeline import ModelPipeline, PipelineBase
from nsdflow.errors import MissingDataError, RunError, one_of
from nsdflow.names import select_subjects
from nsdflow.pipelines.load import load_pipeline
from nsdflow.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from nsdflow.runs.folder import RunFolder
    from nsdflow.store import Store

__all__ = ["input_subjects", "recorded_pipeline", "run_settings", "voxels_of"]

Settings = TypeVar("Settings", bound=PipelineBase)


def recorded_pipeline(run: RunFolder) -> PipelineBase:
    """Read the settings that a run recorded when it began.

    Raises
    ------
    MissingDataError
        There is no such run.
    """
    if not run.exists("run.yaml"):
        raise MissingDataError(f"{run.path}: no such run; do nsdflow run first")
    return load_pipeline(run.record()["pipeline"])


def run_settings(run: RunFolder, kind: type[Settings]) -> Settings:
    """Read the settings of a run of one kind of pipeline.

    Raises
    ------
    MissingDataError
        There is no such run.
    RunError
        It is a run of another kind.
    """
    config = recorded_pipeline(run)
    if not isinstance(config, kind):
        needed = kind.model_fields["kind"].default
        raise RunError(f"{run.path} is a run of kind {config.kind}; one of kind {needed} is needed")
    return config


def input_subjects(run: RunFolder, store: Store, wanted: str | Sequence[str]) -> tuple[str, ...]:
    """Requested subjects of a store that a run has, or will have once it has begun."""
    if not run.exists("run.yaml"):
        return select_subjects(store.subjects, wanted)
    config = recorded_pipeline(run)
    has = config.subjects if isinstance(config, ModelPipeline) else "all"
    return select_subjects(select_subjects(store.subjects, has), wanted)


def voxels_of(run: RunFolder, subject: str) -> xr.Dataset:
    """Voxel coordinates of one subject of a run, with the attributes of the subject.

    Raises
    ------
    SelectionError
        The run lacks the subject.
    """
    results = open_run(run.path)
    if subject not in results.children:
        raise one_of(
            f"subject of {run.path}",
            subject,
            [name for name, node in results.children.items() if "voxel" in node.sizes],
        )
    dataset = results[subject].to_dataset()
    names = [name for name, coordinate in dataset.coords.items() if coordinate.dims == ("voxel",)]
    return dataset[names].load()
