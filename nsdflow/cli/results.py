"""``nsdflow report`` and ``export``: what is made of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsdflow.cli.options import Run, normalized_folder

__all__ = ["export", "report"]


def report(run: Run) -> None:
    """Write `report.html`, one page that needs no network.

    Example: `nsdflow report runs/gnet8j`
    """
    from nsdflow.report import write_report

    print(write_report(run))


def export(
    run: Run,
    folder: Annotated[Path, typer.Argument(help="New folder for the files.", callback=normalized_folder)],
    to: Annotated[str, typer.Option("--to", help="Format: `nifti`.")] = "nifti",
) -> None:
    """Write a run's voxel maps as files for other programs, one per variable and subject.

    Example: `nsdflow export runs/gnet8j --to nifti maps`
    """
    from nsdflow.errors import one_of
    from nsdflow.runs.export import EXPORTERS

    if to not in EXPORTERS:
        raise one_of("export format", to, EXPORTERS)
    for path in EXPORTERS[to](run, folder):
        print(path)
