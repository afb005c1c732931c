"""``nsdflow export``: a run's voxel maps as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsdflow.cli.options import RunPath, normalized

__all__ = ["export"]


def export(
    run: RunPath,
    folder: Annotated[Path, typer.Argument(help="New folder for the files.", callback=normalized)],
    to: Annotated[str, typer.Option("--to", help="Format: `nifti`, `gifti`, `mgz` or `npz`.")] = "nifti",
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
        typer.Option(help="NSD, with its transforms; default: the source of the store.", callback=normalized),
    ] = None,
) -> None:
    """Write a run's voxel maps as files for other programs, one per variable and subject.

    Example: `nsdflow export runs/gnet8j maps --to gifti --space fsaverage`
    """
    from nsdflow.runs.export import export_maps

    for path in export_maps(run, folder, to, space=space, layers=layers, method=method, source=source):
        print(path)
