"""``nsdflow run`` and ``status``: from a store to results."""

from __future__ import annotations

from typing import Annotated

import typer

from nsdflow.cli.options import (
    Cluster,
    Dashboard,
    DryRun,
    Overrides,
    Pipeline,
    Profile,
    RunsFolder,
    StoreUrl,
    Workers,
    normalized,
)

__all__ = ["run", "status"]

#: Time between two updates of ``nsdflow status`` in a terminal.
STATUS_INTERVAL_S = 2.0


def run(
    pipeline: Pipeline,
    store: StoreUrl = None,
    runs: RunsFolder = None,
    storage: Profile = "local",
    cluster: Cluster = "local",
    workers: Workers = None,
    dashboard: Dashboard = "127.0.0.1",
    set_: Overrides = None,
    dry_run: DryRun = False,
) -> None:
    """Run a pipeline on a store; the same command continues an interrupted run.

    Example: `nsdflow run gnet8j --store nsd.zarr --set train.epochs=2`
    """
    from nsdflow.cli.session import check_plans, print_summary, session, write_reports
    from nsdflow.config import load_storage, parse_overrides
    from nsdflow.io.folders import exists
    from nsdflow.pipelines.run import check_runs, plan_steps, run_steps
    from nsdflow.pipelines.steps import steps_of

    profile = load_storage(storage)
    store, runs = store or profile.store, runs or profile.runs
    overrides = parse_overrides(set_ or [])
    resolved, steps = steps_of(pipeline, overrides, store=store, runs=runs)
    if dry_run:
        plan = plan_steps(resolved, steps, runs)
        print(plan.describe())
        check_plans([plan], cluster, workers)
        check_runs(steps)  # earlier runs may be missing when only a plan is made
        return
    folders = [step.folder.path for step in steps]
    if all(step.folder.finished for step in steps):
        run_steps(resolved, steps)
        print("finished before; nothing to do")
        print_summary(folders)
        if missing := [folder for folder in folders if not exists(f"{folder}/report.html")]:
            write_reports(missing)
        return
    with session(cluster, workers=workers, dashboard=dashboard, scratch=profile.scratch) as (start, progress):
        run_steps(resolved, steps, client=start, listen=progress)
    print_summary(folders)
    write_reports(folders)


def status(
    folder: Annotated[
        str, typer.Argument(help="A run, a folder of runs, or a store being built.", callback=normalized)
    ],
    once: Annotated[bool, typer.Option("--once", help="Print once and exit, also in a terminal.")] = False,
) -> None:
    """Show the progress of runs and ingestions. A terminal follows unfinished ones until Ctrl-C.

    Example: `nsdflow status runs`
    """
    import time

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from nsdflow.io.text import for_terminal
    from nsdflow.monitor.terminal import shorten_lines
    from nsdflow.runs.status import read_status

    found = read_status(folder)
    console = Console(highlight=False)
    if once or not console.is_terminal or all(status.finished for status in found):
        text = for_terminal("\n\n".join(status.describe() for status in found))
        print(shorten_lines(text, console.width) if console.is_terminal else text)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            text = shorten_lines(for_terminal("\n\n".join(status.describe() for status in found)), console.width)
            live.update(Text(text, no_wrap=True, overflow="crop"), refresh=True)
            if all(status.finished for status in found):
                break
            time.sleep(STATUS_INTERVAL_S)
            found = read_status(folder)
