"""``nsdflow run``, ``status``, ``report`` and ``export``: from a store to results."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from nsdflow.cli.options import Cluster, Dashboard, DryRun, Profile, StoreUrl, Workers
from nsdflow.cli.session import print_job_scripts, session
from nsdflow.cli.tables import print_summary
from nsdflow.config import load_storage, parse_overrides
from nsdflow.errors import one_of

__all__ = ["export", "report", "run", "status"]

#: Seconds between two looks of ``nsdflow status`` in a terminal.
STATUS_SECONDS = 2.0


def run(
    pipeline: Annotated[str, typer.Argument(help="Name of a pipeline, or a YAML file.")],
    store: StoreUrl = None,
    runs: Annotated[str | None, typer.Option(help="Folder of run folders; the profile's if not given.")] = None,
    storage: Profile = "local",
    cluster: Cluster = "local",
    workers: Workers = None,
    dashboard: Dashboard = "127.0.0.1",
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting that differs: `train.epochs=2`.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Run a pipeline on a store; the same command continues what was interrupted.

    Example: `nsdflow run gnet8j --store nsd.zarr --set train.epochs=2`
    """
    from nsdflow.pipelines.run import resolve, run_folders
    from nsdflow.pipelines.run import run as run_pipeline
    from nsdflow.report import write_report
    from nsdflow.store import open_store

    profile = load_storage(storage)
    store, runs = store or profile.store, runs or profile.runs
    overrides = parse_overrides(set_ or [])
    if dry_run:
        print(run_pipeline(pipeline, store=store, runs=runs, dry_run=True, **overrides).attrs["plan"])
        print_job_scripts(cluster, workers)
        return
    folders = run_folders(resolve(pipeline, overrides), runs)
    open_store(store)  # a mistake in either is told before anything is started
    with session(cluster, workers=workers, dashboard=dashboard, scratch=profile.scratch) as (client, progress):
        run_pipeline(pipeline, store=store, runs=runs, client=client, listen=progress, **overrides)
    reports = [write_report(folder) for folder in folders]
    print_summary(folders)
    for path in reports:
        print(f"report: {path}")


def status(
    folder: Annotated[str, typer.Argument(help="A run, a folder of runs, or a store being built.")],
    once: Annotated[bool, typer.Option("--once", help="Print and stop, also in a terminal.")] = False,
) -> None:
    """Say how far runs and ingestions are. In a terminal it stays and follows what is not finished; Ctrl-C ends it.

    Example: `nsdflow status runs`
    """
    from nsdflow.runs.status import read_status

    found = read_status(folder)
    console = Console(highlight=False)
    if once or not console.is_terminal or all(status.finished for status in found):
        print("\n\n".join(status.describe() for status in found))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live, suppress(KeyboardInterrupt):
        while True:
            text = "\n\n".join(status.describe() for status in found)
            live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            if all(status.finished for status in found):
                break
            time.sleep(STATUS_SECONDS)
            found = read_status(folder)


def report(run: Annotated[str, typer.Argument(help="A run folder.")]) -> None:
    """Write `report.html`, one page that needs no network.

    Example: `nsdflow report runs/gnet8j`
    """
    from nsdflow.report import write_report

    print(write_report(run))


def export(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    folder: Annotated[Path, typer.Argument(help="New folder for the files.")],
    to: Annotated[str, typer.Option("--to", help="Format: `nifti`.")] = "nifti",
) -> None:
    """Write a run's voxel maps as files other programs read, one a variable and subject.

    Example: `nsdflow export runs/gnet8j --to nifti maps`
    """
    from nsdflow.runs.export import EXPORTERS

    if to not in EXPORTERS:
        raise one_of("export format", to, EXPORTERS)
    for path in EXPORTERS[to](run, folder):
        print(path)
