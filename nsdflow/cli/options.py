"""Arguments and options that several commands share, with one wording each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from nsdflow.cli import completion

__all__ = [
    "Cluster",
    "Dashboard",
    "DryRun",
    "Overrides",
    "Pipeline",
    "Profile",
    "Run",
    "RunsFolder",
    "StoreUrl",
    "Workers",
    "normalized",
    "normalized_file",
    "normalized_folder",
    "normalized_folder_name",
]


def normalized(path: str | None) -> str | None:
    """Expand and normalise a path or URL of the command line: the shell leaves ``--runs=~/runs`` as it is."""
    from nsdflow.io.paths import normalize

    return None if path is None else normalize(path)


def normalized_folder_name(path: str) -> str:
    """The same for an argument that has a default."""
    return str(normalized(path))


def normalized_folder(path: Path) -> Path:
    """The same for a folder of this machine."""
    return Path(str(normalized(str(path))))


def normalized_file(name: str) -> str:
    """The same for the name of a shipped YAML file or the path of another."""
    is_path = name.endswith((".yaml", ".yml"))
    return str(normalized(name)) if is_path else name


Cluster: TypeAlias = Annotated[
    str,
    typer.Option(
        help="`local`, `threads`, `slurm`, `pbs`, `sge`, ... or the address of a running scheduler.",
        autocompletion=completion.complete_cluster,
    ),
]
Dashboard: TypeAlias = Annotated[
    str,
    typer.Option(help="Address the dashboard listens on. It has no password; `0.0.0.0` shows it to the whole network."),
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override a setting of the pipeline: `train.epochs=2`.",
        autocompletion=completion.complete_setting,
    ),
]
Pipeline: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="Name of a pipeline, or a YAML file.",
        callback=normalized_file,
        autocompletion=completion.complete_pipeline,
    ),
]
Profile: TypeAlias = Annotated[
    str,
    typer.Option(
        "--storage",
        help="Storage profile: `local`, `scratch`, `s3`, `demo` or a YAML file.",
        callback=normalized_file,
        autocompletion=completion.complete_storage,
    ),
]
Run: TypeAlias = Annotated[str, typer.Argument(help="A run folder.", callback=normalized)]
RunsFolder: TypeAlias = Annotated[
    str | None, typer.Option("--runs", help="Folder of the run folders; default: the profile's.", callback=normalized)
]
StoreUrl: TypeAlias = Annotated[
    str | None, typer.Option("--store", help="Path or URL of the store; default: the profile's.", callback=normalized)
]
Workers: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Worker processes; default: as many as fit.")]
