"""Options that several commands share, with one wording each."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = ["Cluster", "Dashboard", "DryRun", "Profile", "StoreUrl", "Workers"]

Cluster: TypeAlias = Annotated[
    str,
    typer.Option(help="`local`, `threads`, `slurm`, `pbs`, `sge`, ... or the address of a running scheduler."),
]
Dashboard: TypeAlias = Annotated[
    str,
    typer.Option(help="Address the dashboard listens on. It has no password; `0.0.0.0` shows it to the whole network."),
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
Profile: TypeAlias = Annotated[
    str, typer.Option("--storage", help="Storage profile: `local`, `scratch`, `s3`, `demo` or a YAML file.")
]
StoreUrl: TypeAlias = Annotated[
    str | None, typer.Option("--store", help="Path or URL of the store; the profile's if not given.")
]
Workers: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Worker processes; as many as fit if not given.")]
