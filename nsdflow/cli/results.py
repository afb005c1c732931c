"""``nsdflow report``, ``explore`` and ``export``: pages and files made from finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsdflow.cli.options import RunPath, normalized, normalized_folder

__all__ = ["explore", "export", "report"]


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


def export(
    run: RunPath,
    folder: Annotated[Path, typer.Argument(help="New folder for the files.", callback=normalized_folder)],
    to: Annotated[str, typer.Option("--to", help="Format: `nifti`, `gifti`, `mgz`.")] = "nifti",
    space: Annotated[
        str | None, typer.Option(help="Space of the files: `fsaverage`, `nativesurface`, `MNI`, `anat0pt8`, ...")
    ] = None,
    layers: Annotated[
        str, typer.Option(help="Between volumes and surfaces: `mean`, or one of `layerB1`, `white`, `pial`, ...")
    ] = "mean",
    method: Annotated[
        str | None, typer.Option(help="`linear` (default for values), `cubic`, `nearest`, `wta` (for labels).")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="NSD, with its transforms; default: the one of the store.", callback=normalized),
    ] = None,
) -> None:
    """Write a run's voxel maps as files for other programs, one per variable and subject.

    Example: `nsdflow export runs/gnet8j maps --to gifti --space fsaverage`
    """
    from nsdflow.runs.export import export_maps

    for path in export_maps(run, folder, to, space=space, layers=layers, method=method, source=source):
        print(path)
