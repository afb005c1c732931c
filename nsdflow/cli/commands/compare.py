"""``nsdflow compare``: runs compared on the same voxels, or a run compared with the published numbers."""

from __future__ import annotations

from typing import Annotated

import typer

from nsdflow.cli.options import normalized

__all__ = ["compare"]


def compare(
    runs: Annotated[list[str], typer.Argument(help="Run folders, on the same voxels.")],
    published: Annotated[
        bool, typer.Option("--published", help="Compare each run with the numbers of the paper.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            help="File of the page with figures; default: `compare.html` next to the first run.", callback=normalized
        ),
    ] = None,
) -> None:
    """Compare two or more runs on the same voxels: which predicts which voxels better, and by how much, with figures.

    Example: `nsdflow compare runs/gnet8r runs/gnet8j`
    """
    from nsdflow.io.text import for_terminal
    from nsdflow.report.compare import compare_published, compare_run_folders

    folders = [str(normalized(run)) for run in runs]
    if published:
        print(for_terminal("\n\n".join(compare_published(folder) for folder in folders)))
        return
    text, page = compare_run_folders(folders, out)
    print(for_terminal(text))
    print(f"page: {page}")
