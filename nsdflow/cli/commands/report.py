"""``nsdflow report`` and ``explore``: pages of a finished run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nsdflow.cli.options import RunPath, normalized

__all__ = ["explore", "report"]


def report(
    run: RunPath,
    out: Annotated[
        str | None, typer.Option(help="File of the page; default: `report.html` in the run.", callback=normalized)
    ] = None,
) -> None:
    """Write `report.html`, a page of figures that works offline.

    Example: `nsdflow report runs/gnet8j`
    """
    from nsdflow.report import write_report

    print(write_report(run, out))


def explore(
    run: RunPath,
    subject: Annotated[str | None, typer.Option(help="Subject of the page; default: the first of the run.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Number of shared images; 100 take 8 MB for 30,000 voxels.")] = 100,
    source: Annotated[
        str | None,
        typer.Option(help="NSD, with its surfaces; default: the source of the store.", callback=normalized),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="File of the page; default: `explore_SUBJECT.html` in the run.", callback=normalized),
    ] = None,
) -> None:
    """Write an interactive page of a run: point at a voxel to see its field, tuning, predictions and images.

    Example: `nsdflow explore runs/gnet8j`
    """
    from nsdflow.io.text import for_terminal
    from nsdflow.report.brain.explorer import write_explorer

    def tell(line: str) -> None:
        print(for_terminal(line), file=sys.stderr)

    print(write_explorer(run, subject, images=images, source=source, out=out, tell=tell))
