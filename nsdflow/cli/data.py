"""``nsdflow synth``, ``check``, ``masks`` and ``ingest``: from NSD's files to a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from nsdflow.cli.options import (
    Cluster,
    Dashboard,
    DryRun,
    Profile,
    StoreUrl,
    Workers,
    complete_subjects,
    complete_voxels,
    normalized,
    normalized_file,
    normalized_folder,
    normalized_option,
)
from nsdflow.names import DEFAULT_SPACE

if TYPE_CHECKING:
    from nsdflow.ingestion.ingest import IngestPlan
    from nsdflow.store import Store

__all__ = ["check", "ingest", "masks", "synth"]

AnnotationFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder of COCO's annotation files (JSON), also for a store that is finished.", callback=normalized_option
    ),
]
Experiments: TypeAlias = Annotated[
    str | None, typer.Option(help="Sister experiments too: `synthetic,imagery`, or one of them.")
]


def synth(
    folder: Annotated[Path, typer.Argument(help="New folder for the synthetic NSD.", callback=normalized_folder)],
    subjects: Annotated[int | None, typer.Option(min=1, max=8, help="Number of subjects; NSD has 8.")] = None,
    sessions: Annotated[int | None, typer.Option(min=1, max=40, help="Sessions per subject.")] = None,
    trials: Annotated[int | None, typer.Option(min=12, help="Trials per session; NSD has 750.")] = None,
    shared: Annotated[int | None, typer.Option(min=0, help="Images that all subjects see; NSD has 1,000.")] = None,
    image_size: Annotated[int | None, typer.Option(min=32, help="Pixels per side; NSD has 425.")] = None,
    evc_voxels: Annotated[int | None, typer.Option(min=7, help="Voxels of V1 to hV4 per subject.")] = None,
    spaces: Annotated[str | None, typer.Option(help="For example `func1pt8mm,fsaverage`.")] = None,
    formats: Annotated[str | None, typer.Option(help="Of volume betas: `nii.gz`, `hdf5`, `mat`.")] = None,
    hierarchy: Annotated[
        str | None, typer.Option(help="What V1 to hV4 read: `mild`, `ordered`, `reversed`, `same`.")
    ] = None,
    annotations: Annotated[
        bool, typer.Option("--annotations", help="Write COCO's annotation files too; areas beyond hV4 respond to them.")
    ] = False,
    experiments: Experiments = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    size: Annotated[
        str, typer.Option(help="Defaults of the options above: `small`, `demo`, or `published` (300 GB).")
    ] = "small",
) -> None:
    """Write a synthetic NSD in the published layout, with planted responses, and files with the truth.

    Example: `nsdflow synth nsd --subjects 2 --sessions 3`
    """
    from nsdflow.errors import one_of
    from nsdflow.monitor.terminal import TerminalProgress
    from nsdflow.synthetic import SyntheticSpec, write_nsd

    sizes: dict[str, Callable[..., SyntheticSpec]] = {
        "small": SyntheticSpec,
        "demo": SyntheticSpec.demo,
        "published": SyntheticSpec.published,
    }
    if size not in sizes:
        raise one_of("size", size, sizes)
    given = {
        "subjects": subjects,
        "sessions": sessions,
        "trials_per_session": trials,
        "shared_images": shared,
        "image_size": image_size,
        "evc_voxels": evc_voxels,
        "spaces": spaces and tuple(spaces.split(",")),
        "formats": formats and tuple(formats.split(",")),
        "hierarchy": hierarchy,
        "annotations": annotations or None,
        "experiments": experiments and tuple(experiments.split(",")),
    }
    spec = sizes[size](seed=seed, **{name: value for name, value in given.items() if value is not None})
    with TerminalProgress() as progress:
        write_nsd(folder, spec, progress=progress.step)
    print(f"{folder}: a synthetic NSD of {spec.subjects} subject(s); the planted truth is in {folder / 'truth'}")


def check(
    source: Annotated[str, typer.Argument(help="A folder, or s3://natural-scenes-dataset.", callback=normalized)],
    pipeline: Annotated[
        str | None,
        typer.Option(help="Check only its subjects, and its inputs other than NSD.", callback=normalized_file),
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
        list[Path] | None, typer.Option(help="With --parity: a published file, whose correlations are compared.")
    ] = None,
) -> None:
    """List the NSD files of a source, what is missing, and their sizes; reads no betas.

    Example: `nsdflow check s3://natural-scenes-dataset`
    """
    if parity:
        from nsdflow.pipelines.parity import check_parity, describe_parity

        files = [normalized_folder(path) for path in checkpoint or ()]
        print(describe_parity(source, check_parity(source, store=store, checkpoints=files)))
        return
    if store or checkpoint:
        from nsdflow.errors import ConfigError

        raise ConfigError("check", ["--store and --checkpoint are for --parity; add it, or leave them out"])
    from nsdflow.pipelines.needs import check_source

    print(check_source(source, pipeline=pipeline, space=space, betas=betas))


def masks(
    source: Annotated[str, typer.Argument(help="A folder, or s3://natural-scenes-dataset.", callback=normalized)],
    folder: Annotated[Path, typer.Argument(help="Folder for the files.", callback=normalized_folder)],
    subjects: Annotated[
        str | None,
        typer.Option(help="For example `1,2`; default: all that the source holds.", autocompletion=complete_subjects),
    ] = None,
    space: Annotated[str, typer.Option(help="`func1pt8mm` or `func1mm`.")] = DEFAULT_SPACE,
    wrap: Annotated[
        bool, typer.Option("--wrap/--no-wrap", help="Whether inflating wraps around at the borders, as published.")
    ] = True,
) -> None:
    """Write the voxel sets of each subject as NIfTI files, and compare their counts with NSD's brain mask.

    Example: `nsdflow masks nsd masks --subjects 1`
    """
    from nsdflow.ingestion.masks import describe_counts, write_masks

    print(describe_counts(write_masks(source, folder, subjects=subjects, space=space, wrap=wrap)))


def ingest(
    source: Annotated[str | None, typer.Option(help="NSD: a folder or an s3:// URL.", callback=normalized)] = None,
    store: StoreUrl = None,
    subjects: Annotated[
        str | None,
        typer.Option(
            help="For example `1,2` or `1-4`; default: all that the source holds.", autocompletion=complete_subjects
        ),
    ] = None,
    sessions: Annotated[str | None, typer.Option(help="For example `1-37`; all that can be read by default.")] = None,
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
    """Turn NSD's files into a Zarr store: verified, published when complete, resumable.

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
    """Say what a store got."""
    if not plan.finished:
        print(f"{store.url}: published, with {', '.join(store.subjects)}")
    if plan.annotations is not None:
        table = store.annotations()
        print(f"{store.url}: annotations of {table.sizes['image']} images, {table.sizes['category']} categories")
