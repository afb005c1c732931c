"""Planning an ingestion: what is read and written, and what a store lacks, without reading betas."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nsdflow.engine.plan import Plan
from nsdflow.errors import MissingDataError
from nsdflow.ingestion.annotations import AnnotationPlan, annotations_before, plan_annotations
from nsdflow.ingestion.costs import STAGES, image_job, image_tasks, subject_job, subject_tasks
from nsdflow.ingestion.experiments import plan_experiment
from nsdflow.ingestion.growth import Growth, compare_with_store
from nsdflow.ingestion.settings import IngestSettings
from nsdflow.ingestion.stamps import coordinate_stamps, file_stamp, session_listing, session_stamps
from nsdflow.ingestion.tasks.jobs import SubjectJob
from nsdflow.io.paths import public
from nsdflow.names import STIMULI_FILE, number_ranges
from nsdflow.nsd import layout as paths
from nsdflow.nsd.design import is_synthetic, read_design
from nsdflow.nsd.inventory import Inventory, SubjectInventory, take_inventory
from nsdflow.nsd.source import Source, open_source
from nsdflow.store.build import Workspace, is_taken, workspace_of
from nsdflow.store.schema import SCHEMA_VERSION

__all__ = ["IngestPlan", "plan_ingest"]

#: Lines of the plan on files that are missing or left out, before "and N more".
LINES_SHOWN = 12


@dataclass(frozen=True)
class IngestPlan(Plan):
    """A plan with the place of the store, the origin of everything in it, and the store that it adds to."""

    workspace: Workspace = field(kw_only=True)
    manifest: Mapping[str, Any] = field(kw_only=True)
    """Sources with their stamps, and settings. An interrupted ingestion continues only with the same settings."""
    growth: Growth | None = field(kw_only=True, default=None)
    """What a published store has already; None where there is none."""
    annotations: AnnotationPlan | None = field(kw_only=True, default=None)
    """COCO's annotations that are asked for: a task of the plan, or added to a store that holds everything else."""

    @property
    def finished(self) -> bool:
        """Whether the store exists and holds everything."""
        return self.growth is not None and self.growth.complete


def plan_ingest(
    source: str | Source, store: str, *, annotations: str | os.PathLike[str] | None = None, **options: Any
) -> IngestPlan:
    """Plan an ingestion: tasks, bytes, memory and files, without reading betas.

    Parameters
    ----------
    source : str or Source
        Folder or fsspec URL of NSD.
    store : str
        Path or URL of the store. Subjects and sessions are added to a store that exists.
    annotations : str or path, optional
        Folder or URL of COCO's annotation files. A store that has annotations keeps them when it grows.
    **options
        Fields of :class:`~nsdflow.ingestion.settings.IngestSettings`, as users write them. None means the default.

    Returns
    -------
    IngestPlan
        Plan without tasks if the store holds everything already.

    Raises
    ------
    StoreError
        The store exists with other settings, or the files would exceed the budget.
    ConfigError
        A subject, session or size makes no sense.
    SelectionError
        No such option, subject, space, version or voxel set; the message lists those that exist.
    MissingDataError
        A subject has none of the sessions, or a file that is needed does not exist.
    SourceError
        Files of the source contradict each other.
    """
    settings = IngestSettings.of(**options)
    workspace = workspace_of(store)
    origin = source if isinstance(source, Source) else open_source(source)
    inventory = take_inventory(
        origin, space=settings.space, betas=settings.betas, subjects=settings.subjects, sessions=settings.sessions
    )
    _check_all_found(inventory.subjects, settings.subjects or (), origin)
    described = None if annotations is None else plan_annotations(origin, annotations)
    if is_taken(workspace.store):
        return _plan_growth(origin, settings, workspace, inventory, described)
    return _plan(origin, settings, workspace, inventory, described, None)


def _plan_growth(
    origin: Source,
    settings: IngestSettings,
    workspace: Workspace,
    inventory: Inventory,
    annotations: AnnotationPlan | None,
) -> IngestPlan:
    """The plan of what a published store lacks."""
    found = {subject.subject: subject.sessions for subject in inventory.subjects}

    def coordinates(subject: str) -> dict[str, str]:
        return coordinate_stamps(origin, subject, settings.space, settings.betas)

    growth, wanted = compare_with_store(
        workspace.store, settings, public(origin.url), SCHEMA_VERSION, found, coordinates
    )
    if not growth.complete:
        settings = growth.settings
        annotations = annotations or annotations_before(workspace.store, origin)
        return _plan(origin, settings, workspace, _inventory_of(origin, settings, wanted), annotations, growth)
    return IngestPlan(
        title=f"ingest {public(origin.url)} into {workspace.store}",
        folder=workspace.folder,
        tasks=(),
        notes=(*growth.notes, *([annotations.describe()] if annotations else [])),
        workspace=workspace,
        manifest={},
        growth=growth,
        annotations=annotations,
    )


def _inventory_of(origin: Source, settings: IngestSettings, wanted: Mapping[str, tuple[int, ...]]) -> Inventory:
    """The inventory of a grown store: each subject with its own sessions."""
    numbers = sorted({session for sessions in wanted.values() for session in sessions})
    taken = take_inventory(origin, space=settings.space, betas=settings.betas, subjects=wanted, sessions=numbers)
    subjects = []
    for subject in taken.subjects:
        if lost := sorted(set(wanted[subject.subject]) - set(subject.sessions)):
            raise MissingDataError(
                f"{public(origin.url)}: no session {number_ranges(lost)} of {subject.subject}, which the store holds; "
                "adding to the store needs its files"
            )
        formats = {number: subject.formats[number] for number in wanted[subject.subject]}
        subjects.append(replace(subject, sessions=wanted[subject.subject], formats=formats))
    return replace(taken, subjects=tuple(subjects))


def _plan(
    origin: Source,
    settings: IngestSettings,
    workspace: Workspace,
    inventory: Inventory,
    annotations: AnnotationPlan | None,
    growth: Growth | None,
) -> IngestPlan:
    """The plan of a new store, or of a store that grows."""
    design, layout = read_design(origin), settings.layout
    before = None if growth is None else workspace.store
    planned, records, sessions = [], {}, {}
    for found in inventory.subjects:
        job = subject_job(origin, workspace, settings, found, design, before)
        coordinates = coordinate_stamps(origin, found.subject, found.space, found.betas)
        listing = session_listing(origin, found.subject, found.space, found.betas)
        stamps = {n: session_stamps(listing, n, found.space, format) for n, format in found.formats.items()}
        stored = () if growth is None else growth.stored(found.subject)
        planned += subject_tasks(job, found, coordinates, stamps, before=before, stored=stored)
        records[found.subject] = _record(job, coordinates, stamps)
        size = settings.image_size if settings.with_images else 0
        sisters = {name: plan_experiment(job, name, layout, image_size=size) for name in settings.experiments}
        planned += [task for sister in sisters.values() for task in sister.tasks]
        if sisters:
            records[found.subject]["experiments"] = {name: sister.record for name, sister in sisters.items()}
        sessions[found.subject] = job.sessions
    if settings.with_images:
        images = image_job(origin, workspace, settings, sessions, inventory, before)
        planned += image_tasks(images, inventory)
    if annotations is not None:
        planned.append(annotations.task(workspace.built, records))
    return IngestPlan(
        title=f"ingest {public(origin.url)} into {workspace.store}",
        folder=workspace.folder,
        tasks=tuple(sorted(planned, key=lambda task: STAGES.index(task.stage))),
        file_budget=2
        + layout.file_budget * (len(records) * (1 + len(settings.experiments)) + (settings.with_images))
        + (annotations.file_budget if annotations else 0),
        notes=(
            f"at most {layout.file_budget} files per subject, and as many for the images",
            *(growth.notes if growth is not None else ()),
            *([annotations.describe()] if annotations else []),
            *_remarks(inventory),
        ),
        workspace=workspace,
        growth=growth,
        annotations=annotations,
        manifest={
            "schema": SCHEMA_VERSION,
            "source": public(origin.url),
            "synthetic": is_synthetic(origin),
            "settings": settings.record(),
            "design": file_stamp(origin, paths.EXPERIMENT_DESIGN),
            "stimuli": file_stamp(origin, STIMULI_FILE) if settings.with_images else None,
            "annotations": annotations.files if annotations else None,
            "subjects": records,
            "before": None if growth is None else {name: list(numbers) for name, numbers in growth.sessions.items()},
            "missing": list(inventory.missing),
            "left_out": list(inventory.left_out),
            "held_out": {found.subject: list(found.held_out) for found in inventory.subjects if found.held_out},
        },
    )


def _record(job: SubjectJob, coordinates: Mapping[str, str], stamps: Mapping[int, tuple[str, ...]]) -> dict[str, Any]:
    files = {"coordinates": dict(coordinates)} | {str(session): list(stamp) for session, stamp in stamps.items()}
    return {"sessions": list(job.sessions), "voxels": job.voxel_count, "files": files}


def _remarks(inventory: Inventory) -> list[str]:
    """Lines on what the store will lack."""
    lines = [f"left out: {line}" for line in inventory.left_out]
    lines += [
        f"{found.subject}: sessions {number_ranges(found.held_out)} cannot be read, so they are left out"
        for found in inventory.subjects
        if found.held_out
    ]
    lines += [f"missing: {path}" for path in inventory.missing]
    more = len(lines) - LINES_SHOWN
    return lines if more <= 1 else [*lines[:LINES_SHOWN], f"and {more} more; `nsdflow check` lists all"]


def _check_all_found(found: Iterable[SubjectInventory], asked: Iterable[str], origin: Source) -> None:
    names = [subject.subject for subject in found]
    if absent := sorted(set(asked) - set(names)):
        raise MissingDataError(
            f"{public(origin.url)}: no sessions of {', '.join(absent)} in this space and version, or none of "
            f"those asked for; found: {', '.join(names)}"
        )
