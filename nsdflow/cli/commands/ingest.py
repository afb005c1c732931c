"""``nsdflow ingest``: from NSD's files to a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from nsdflow.cli.options import (
    Cluster,
    Dashboard,
    DryRun,
    Experiments,
    Profile,
    StoreUrl,
    Workers,
    complete_subjects,
    complete_voxels,
    normalized,
)

if TYPE_CHECKING:
    from nsdflow.ingestion.ingest import IngestPlan
    from nsdflow.store import Store

__all__ = ["ingest"]

AnnotationFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of COCO's annotation files (JSON), also for a finished store.", callback=normalized),
]


def ingest(
    source: Annotated[str | None, typer.Option(help="NSD: a folder or an s3:// URL.", callback=normalized)] = None,
    store: StoreUrl = None,
    subjects: Annotated[
        str | None,
        typer.Option(
            help="For example `1,2` or `1-4`; default: all that the source holds.", autocompletion=complete_subjects
        ),
    ] = None,
    sessions: Annotated[str | None, typer.Option(help="For example `1-37`; default: all readable sessions.")] = None,
    betas: Annotated[str | None, typer.Option(help="Version of the betas.")] = None,
    space: Annotated[
        str | None, typer.Option(help="`func1pt8mm`, `func1mm`, `nativesurface`, `fsaverage` or `MNI`.")
    ] = None,
    voxels: Annotated[
        str | None,
        typer.Option(
            help="`evc`, `visual`, `nsdgeneral`, `tight`, `inflated`, `brain` or an atlas.",
            autocompletion=complete_voxels,
        ),
    ] = None,
    image_size: Annotated[int | None, typer.Option(min=32, help="Pixels per side of the stored images.")] = None,
    images: Annotated[
        str, typer.Option(help="`shown` (those of the trials), `subjects` (their whole lists), `all`, `none`.")
    ] = "shown",
    experiments: Experiments = None,
    annotations: AnnotationFolder = None,
    storage: Profile = "local",
    cluster: Cluster = "local",
    workers: Workers = None,
    dashboard: Dashboard = "127.0.0.1",
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Keep what an interrupted ingestion finished.")
    ] = True,
    dry_run: DryRun = False,
) -> None:
    """Convert NSD's files into a verified Zarr store. The same command continues an interrupted ingestion.

    Example: `nsdflow ingest --source s3://natural-scenes-dataset --store nsd.zarr --subjects 1,2`
    """
    from nsdflow.cli.session import check_plans, session
    from nsdflow.config import load_storage
    from nsdflow.errors import ConfigError
    from nsdflow.ingestion.ingest import carry_out as run_ingestion
    from nsdflow.ingestion.ingest import finish, plan_ingest
    from nsdflow.monitor.events import subscribe
    from nsdflow.nsd.source import open_source

    profile = load_storage(storage)
    source = source or profile.source
    if source is None:
        raise ConfigError("ingest", ["no source; write --source FOLDER or --source s3://natural-scenes-dataset"])
    origin = open_source(source, profile.source_options)
    plan = plan_ingest(
        origin,
        store or profile.store,
        subjects=subjects,
        betas=betas or profile.betas,
        space=space or profile.space,
        voxels=voxels or profile.voxels,
        image_size=image_size or profile.image_size,
        images=images,
        experiments=experiments,
        sessions=sessions,
        layout=profile.layout,
        annotations=annotations,
    )
    print("\n".join(plan.notes) if plan.finished else plan.describe())
    if dry_run or plan.finished:
        if not plan.finished:
            check_plans([plan], cluster, workers)
        elif not dry_run:
            _describe(finish(plan), plan)
        return
    with (
        session(cluster, workers=workers, dashboard=dashboard, scratch=profile.scratch) as (start, progress),
        subscribe(start(), progress),
    ):
        opened = run_ingestion(plan, start(), resume=resume, listen=progress)
    _describe(opened, plan)


def _describe(store: Store, plan: IngestPlan) -> None:
    """Print what was added to a store."""
    if not plan.finished:
        print(f"{store.url}: published, with {', '.join(store.subjects)}")
    if plan.annotations is not None:
        table = store.annotations()
        print(f"{store.url}: annotations of {table.sizes['image']} images, {table.sizes['category']} categories")
