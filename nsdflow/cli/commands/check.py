"""``nsdflow check`` and ``masks``: what NSD's files hold, before anything is ingested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsdflow.cli.options import complete_subjects, normalized, normalized_file
from nsdflow.names import DEFAULT_SPACE

__all__ = ["check", "masks"]


def check(
    source: Annotated[str, typer.Argument(help="A folder, or s3://natural-scenes-dataset.", callback=normalized)],
    pipeline: Annotated[
        str | None,
        typer.Option(help="Check only the subjects of this pipeline, and its other inputs.", callback=normalized_file),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Space of the betas.")] = None,
    betas: Annotated[str | None, typer.Option(help="Version of the betas.")] = None,
    parity: Annotated[
        bool, typer.Option("--parity", help="Compare counts and input means with the published numbers.")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(help="With --parity: a store, for exact means and predictions.", callback=normalized),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="With --parity: a published checkpoint whose correlations are compared.")
    ] = None,
) -> None:
    """List the NSD files of a source, what is missing, and their sizes; reads no betas.

    Example: `nsdflow check s3://natural-scenes-dataset`
    """
    if parity:
        from nsdflow.pipelines.parity import check_parity, describe_parity

        files = [normalized(path) for path in checkpoint or ()]
        print(describe_parity(source, check_parity(source, store=store, checkpoints=files)))
        return
    if store or checkpoint:
        from nsdflow.errors import ConfigError

        raise ConfigError("check", ["--store and --checkpoint are for --parity; add it, or leave them out"])
    from nsdflow.pipelines.needs import check_source

    print(check_source(source, pipeline=pipeline, space=space, betas=betas))


def masks(
    source: Annotated[str, typer.Argument(help="A folder, or s3://natural-scenes-dataset.", callback=normalized)],
    folder: Annotated[Path, typer.Argument(help="Folder for the files.", callback=normalized)],
    subjects: Annotated[
        str | None,
        typer.Option(help="For example `1,2`; default: all that the source holds.", autocompletion=complete_subjects),
    ] = None,
    space: Annotated[str, typer.Option(help="`func1pt8mm` or `func1mm`.")] = DEFAULT_SPACE,
    wrap: Annotated[
        bool, typer.Option("--wrap/--no-wrap", help="Whether inflation wraps around at the borders, as published.")
    ] = True,
) -> None:
    """Write the voxel sets of each subject as NIfTI files, and compare their counts with NSD's brain mask.

    Example: `nsdflow masks nsd masks --subjects 1`
    """
    from nsdflow.ingestion.masks import describe_counts, write_masks

    print(describe_counts(write_masks(source, folder, subjects=subjects, space=space, wrap=wrap)))
