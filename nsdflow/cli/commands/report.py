"""``nsdflow report`` and ``explore``: pages of a finished run."""

from __future__ import annotations

from typing import Annotated

import typer

from nsdflow.cli.options import RunPath, normalized

__all__ = ["explore", "report"]


def report(run: RunPath) -> None:
    """Write `report.html`, one page that needs no network.

    Example: `nsdflow report runs/gnet8j`
    """
    from nsdflow.report import write_report

    print(write_report(run))


def explore(
    run: RunPath,
    subject: Annotated[str | None, typer.Option(help="Subject of the page; default: the first of the run.")] = None,
    images: Annotated[
        int, typer.Option(min=1, help="Shared images with responses and predictions; 100 take 8 MB of 30,000 voxels.")
    ] = 100,
    source: Annotated[
        str | None,
        typer.Option(help="NSD, with its surfaces; by default the one the store was made from.", callback=normalized),
    ] = None,
) -> None:
    """Write one page to walk through the voxels of a run: point at a voxel to see all that is known of it.

    Example: `nsdflow explore runs/gnet8j`
    """
    from nsdflow.report.brain.explorer import write_explorer

    print(write_explorer(run, subject, images=images, source=source))
