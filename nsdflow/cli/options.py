"""Arguments and options that several commands share, with one wording, and their completion in the shell.

``nsdflow --install-completion`` sets the shell up. A ``complete_...`` function returns the words that continue
``incomplete``, and none where they cannot be determined.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, TypeAlias

import typer

__all__ = [
    "Cluster",
    "Dashboard",
    "DryRun",
    "Experiments",
    "Overrides",
    "Pipeline",
    "Profile",
    "RunPath",
    "RunsFolder",
    "StoreUrl",
    "Workers",
    "complete_subjects",
    "complete_thing",
    "complete_voxels",
    "normalized",
    "normalized_file",
]


def normalized(path: Any) -> Any:
    """Expand and normalise a path or URL of the command line: the shell leaves ``--runs=~/runs`` as it is."""
    from nsdflow.io.paths import normalize

    return None if path is None else type(path)(normalize(path))


def normalized_file(name: str | None) -> str | None:
    """The same for the name of a shipped YAML file or the path of another."""
    is_path = name is not None and name.endswith((".yaml", ".yml"))
    return str(normalized(name)) if is_path else name


def complete_pipeline(incomplete: str) -> list[str]:
    """Names of the pipelines that come with nsdflow."""
    from nsdflow.pipelines.load import pipeline_names

    return _beginning(incomplete, pipeline_names())


def complete_storage(incomplete: str) -> list[str]:
    """Names of the storage profiles that come with nsdflow."""
    from nsdflow.config import storage_names

    return _beginning(incomplete, storage_names())


def complete_thing(incomplete: str) -> list[str]:
    """Names that ``nsdflow info`` describes."""
    return complete_pipeline(incomplete)


def complete_cluster(incomplete: str) -> list[str]:
    """Kinds of clusters."""
    from nsdflow.cluster.batch.jobqueue import BATCH_SYSTEMS

    return _beginning(incomplete, ("local", "threads", *BATCH_SYSTEMS))


def complete_subjects(incomplete: str) -> list[str]:
    """Subjects, also the last of a list with commas."""
    *chosen, last = incomplete.split(",")
    rest = [str(number) for number in range(1, 9) if str(number) not in chosen]
    return [",".join([*chosen, word]) for word in _beginning(last, rest)]


def complete_voxels(incomplete: str) -> list[str]:
    """Names of voxel sets."""
    from nsdflow.nsd.voxels.masks import VOXEL_SETS

    return _beginning(incomplete, VOXEL_SETS)


def complete_setting(incomplete: str) -> list[str]:
    """Keys of the settings of the pipeline on the command line; after ``rois=``, ROIs of the store."""
    from nsdflow.pipelines.load import load_pipeline, pipeline_names

    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={word}" for word in _values(key, value)]
    known = pipeline_names()
    named = [word for word in _words() if word in known or word.endswith((".yaml", ".yml"))]
    with suppress(Exception):  # an incomplete command line, a pipeline file with mistakes
        pipeline = load_pipeline(named[0])
        return _beginning(incomplete, (f"{name}=" for name in _dotted(pipeline.model_dump(mode="json"))))
    return []


def _words() -> list[str]:
    """The words of the command line so far; the variables are those of bash, and of the other shells."""
    text = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    with suppress(ValueError):  # an open quote
        return shlex.split(text)
    return text.split()


def _values(key: str, value: str) -> list[str]:
    if key == "subjects":
        return complete_subjects(value)
    if key != "rois":
        return []
    from nsdflow.store import open_store

    opening, bracket, names = value.rpartition("[")
    *chosen, last = names.split(",")
    words = _words()
    with suppress(Exception):  # no store there
        store = open_store(words[words.index("--store") + 1] if "--store" in words else "nsd.zarr")
        known = [str(name) for name in store.rois(store.subjects[0]).index]
        return [opening + bracket + ",".join([*chosen, word]) for word in _beginning(last, known)]
    return []


def _dotted(settings: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{name}.")
        elif f"{prefix}{name}" != "kind":
            yield f"{prefix}{name}"


def _beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


Cluster: TypeAlias = Annotated[
    str,
    typer.Option(
        help="`local`, `threads`, `slurm`, `pbs`, `sge`, ... or the address of a running scheduler.",
        autocompletion=complete_cluster,
    ),
]
Dashboard: TypeAlias = Annotated[
    str,
    typer.Option(help="Address the dashboard listens on. It has no password; `0.0.0.0` shows it to the whole network."),
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")]
Experiments: TypeAlias = Annotated[
    str | None, typer.Option(help="Sister experiments too: `synthetic,imagery`, or one of them.")
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override a setting of the pipeline: `train.epochs=2`.",
        autocompletion=complete_setting,
    ),
]
Pipeline: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="Name of a pipeline, or a YAML file.",
        callback=normalized_file,
        autocompletion=complete_pipeline,
    ),
]
Profile: TypeAlias = Annotated[
    str,
    typer.Option(
        "--storage",
        help="Storage profile: `local`, `scratch`, `s3`, `demo` or a YAML file.",
        callback=normalized_file,
        autocompletion=complete_storage,
    ),
]
RunPath: TypeAlias = Annotated[str, typer.Argument(help="A run folder.", callback=normalized)]
RunsFolder: TypeAlias = Annotated[
    str | None, typer.Option("--runs", help="Folder of the run folders; default: the profile's.", callback=normalized)
]
StoreUrl: TypeAlias = Annotated[
    str | None, typer.Option("--store", help="Path or URL of the store; default: the profile's.", callback=normalized)
]
Workers: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Worker processes; default: as many as fit.")]
