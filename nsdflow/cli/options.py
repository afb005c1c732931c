"""Arguments and options that several commands share, with one wording each."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

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
]

Cluster: TypeAlias = Annotated[
    str,
    typer.Option(help="`local`, `threads`, `slurm`, `pbs`, `sge`, ... or the address of a running scheduler."),
]
Dashboard: TypeAlias = Annotated[
    str,
    typer.Option(help="Address the dashboard listens on. It has no password; `0.0.0.0` shows it to the whole network."),
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")]
Overrides: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting of the pipeline: `train.epochs=2`.")
]
Pipeline: TypeAlias = Annotated[str, typer.Argument(help="Name of a pipeline, or a YAML file.")]
Profile: TypeAlias = Annotated[
    str, typer.Option("--storage", help="Storage profile: `local`, `scratch`, `s3`, `demo` or a YAML file.")
]
Run: TypeAlias = Annotated[str, typer.Argument(help="A run folder.")]
RunsFolder: TypeAlias = Annotated[
    str | None, typer.Option("--runs", help="Folder that holds the run folders; default: the profile's.")
]
StoreUrl: TypeAlias = Annotated[
    str | None, typer.Option("--store", help="Path or URL of the store; default: the profile's.")
]
Workers: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Worker processes; default: as many as fit.")]
