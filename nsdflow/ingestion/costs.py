"""The tasks of an ingestion, and the cost of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from nsdflow.config.storage import Layout
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Task
from nsdflow.errors import MissingDataError, SourceError, StoreError
from nsdflow.ingestion.image_choices import chosen_images
from nsdflow.ingestion.settings import IngestSettings
from nsdflow.ingestion.tasks.betas import (
    SAMPLED_SESSIONS,
    copy_session,
    gather_statistics,
    verify_subject,
    write_session,
)
from nsdflow.ingestion.tasks.images import (
    READ_IMAGES,
    SAMPLED_IMAGES,
    create_images,
    verify_images,
    write_images,
)
from nsdflow.ingestion.tasks.jobs import ImageJob, ImageShardJob, SessionJob, SubjectJob, TableJob, VerifyJob
from nsdflow.ingestion.tasks.tables import create_subject_group
from nsdflow.ingestion.tasks.voxels import voxel_mask
from nsdflow.io.folders import exists
from nsdflow.names import STIMULI_FILE
from nsdflow.nsd import layout as paths
from nsdflow.nsd.design import BEHAVIOUR, Design
from nsdflow.nsd.inventory import Inventory, SubjectInventory
from nsdflow.nsd.source import Source
from nsdflow.store.build import Workspace
from nsdflow.store.schema import STATISTICS, count_coordinates
from nsdflow.store.shard_format import open_sharded
from nsdflow.store.shard_sizes import Cut, cut_images, cut_subject

__all__ = [
    "STAGES",
    "image_job",
    "image_tasks",
    "session_task",
    "statistics_task",
    "subject_job",
    "subject_tasks",
    "verify_task",
]

#: In the order in which tasks are submitted.
STAGES: Final = ("coordinates", "annotations", "betas", "images", "statistics", "verification")
#: Volumes in memory besides the atlases: ten means of the localizer's betas, which come from one file, and some more.
VOLUMES_AT_ONCE: Final = 16


def subject_job(
    origin: Source,
    workspace: Workspace,
    settings: IngestSettings,
    found: SubjectInventory,
    design: Design,
    before: str | None = None,
) -> SubjectJob:
    """The record that the tasks of a subject share; ``before`` is a published store to which the ingestion adds.

    Raises
    ------
    SourceError
        The design and the betas contradict each other, or the set has no voxels.
    """
    if found.sessions[-1] > len(design.trials_per_session):
        raise SourceError(
            f"{origin.join(paths.EXPERIMENT_DESIGN)}: {len(design.trials_per_session)} sessions where {found.subject} "
            f"has session {found.sessions[-1]}; take both from the same release"
        )
    lengths = {int(design.trials_per_session[session - 1]) for session in found.sessions}
    if lengths != {found.trials}:
        raise SourceError(
            f"{origin.join(paths.EXPERIMENT_DESIGN)}: sessions of {', '.join(map(str, sorted(lengths)))} trials where "
            f"the betas of {found.subject} have {found.trials}; take both from the same release"
        )
    count = int(voxel_mask(origin, found.subject, settings, found.shape).sum())
    if not count:
        raise SourceError(f"{found.subject}: no voxel in {settings.voxels}; choose another voxel set")
    dtype = "float32" if found.space == "fsaverage" else "int16"
    cut = partial(
        cut_subject,
        sessions=len(found.sessions),
        trials=found.trials,
        voxels=count,
        itemsize=4 if dtype == "float32" else 2,
        arrays=count_coordinates("trial", "voxel") + len(BEHAVIOUR) + len(found.atlases) + len(found.maps),
    )
    return SubjectJob(
        source=origin,
        built=workspace.built,
        folder=workspace.folder,
        subject=found.subject,
        settings=settings,
        voxel_count=count,
        sessions=found.sessions,
        trials=found.trials,
        shape=tuple(found.shape),
        affine=tuple(value for row in found.affine for value in row) if found.affine else None,
        dtype=dtype,
        cut=_cut(cut, settings.layout, None if before is None else f"{before}/{found.subject}/betas"),
    )


def _cut(cut: Callable[..., Cut], layout: Layout, before: str | None) -> Cut:
    """The shards of the betas to which sessions are added, if the file budget allows them; else those of the layout."""
    if before is not None and layout.shard_voxels is None and exists(f"{before}/zarr.json"):
        array = open_sharded(before)
        with suppress(StoreError):
            return cut(layout=layout.model_copy(update={"shard_voxels": array.chunk[1] * array.chunks_per_shard[1]}))
    return cut(layout=layout)


def subject_tasks(
    job: SubjectJob,
    found: SubjectInventory,
    coordinates: Mapping[str, str],
    stamps: Mapping[int, tuple[str, ...]],
    *,
    before: str | None = None,
    stored: Collection[int] = (),
) -> list[Task]:
    """The tasks of a subject.

    Parameters
    ----------
    coordinates : mapping
        Stamps of the files that coordinates come from.
    stamps : mapping
        Stamps of the files of each session.
    before : str, optional
        A published store to which the ingestion adds.
    stored : collection of int
        Sessions that this store has already.
    """
    sessions = [
        session_task(
            f"betas-{job.subject}-session{session:02d}",
            SessionJob(job, session, found.formats[session], stamps[session], before if session in stored else None),
            reads=found.bytes // len(job.sessions),
            after=f"coordinates-{job.subject}",
        )
        for session in job.sessions
    ]
    volume_bytes = math.prod(job.shape) * 8
    create = Task(
        key=f"coordinates-{job.subject}",
        function=create_subject_group,
        job=TableJob(job, found.atlases, found.maps, coordinates),
        stage="coordinates",
        memory=Memory.with_numpy(
            volumes=(len(found.atlases) + VOLUMES_AT_ONCE) * volume_bytes, maps=4 * len(found.maps) * job.voxel_count
        ),
        files=job.cut.files - sum(task.files for task in sessions) - len(STATISTICS),
    )
    gather = statistics_task(job, (create.key, *(task.key for task in sessions)))
    verify = verify_task(
        VerifyJob(job, {n: format for n, format in found.formats.items() if n not in stored}),
        (gather.key,),
        sessions[0],
    )
    return [create, *sessions, gather, verify]


def session_task(key: str, job: SessionJob, *, reads: int, after: str) -> Task:
    """The task that writes the betas of one session; ``reads`` are the bytes of its files."""
    subject = job.subject
    itemsize = 4 if subject.dtype == "float32" else 2
    session_bytes = subject.trials * subject.voxel_count * itemsize
    # a volume, and the one before it; chunks, widened to float64 for their statistics, and compressed
    chunk_bytes = subject.trials * subject.cut.chunk[1] * (2 * itemsize + 8)
    buffers = 2 * itemsize * math.prod(subject.shape) + subject.shards_at_once * chunk_bytes
    return Task(
        key=key,
        function=write_session if job.before is None else copy_session,
        job=job,
        stage="betas",
        after=(after,),
        memory=Memory.with_numpy(session=session_bytes, buffers=buffers),
        reads=reads if job.before is None else session_bytes,
        writes=session_bytes,
        files=math.ceil(subject.voxel_count / subject.cut.shard[1]),
    )


def statistics_task(job: SubjectJob, after: tuple[str, ...]) -> Task:
    """The task that writes the statistics of all sessions of a subject."""
    size = len(job.sessions) * job.voxel_count * 10  # two float32 and two bool
    return Task(
        key=f"statistics-{job.name}",
        function=gather_statistics,
        job=job,
        stage="statistics",
        after=after,
        memory=Memory.with_numpy(statistics=2 * size),
        reads=size,
        writes=size,
        files=len(STATISTICS),
    )


def verify_task(job: VerifyJob, after: tuple[str, ...], session: Task) -> Task:
    """The task that checks a subject; its costs are those of the task of a session."""
    return Task(
        key=f"verify-{job.subject.name}",
        function=verify_subject,
        job=job,
        stage="verification",
        after=after,
        memory=session.memory,
        reads=SAMPLED_SESSIONS * (session.reads + session.writes),
    )


def image_job(
    origin: Source,
    workspace: Workspace,
    settings: IngestSettings,
    sessions: Mapping[str, tuple[int, ...]],
    inventory: Inventory,
    before: str | None = None,
) -> ImageJob:
    """The record that the tasks of the images share.

    Raises
    ------
    MissingDataError
        The source has no images.
    SourceError
        The design shows images that the source does not have.
    """
    if not inventory.image_count:
        raise MissingDataError(
            f"{origin.join(STIMULI_FILE)}: no images there; fetch them, or ingest without: --images none"
        )
    ids = chosen_images(settings.images, origin, sessions, inventory.image_count)
    if ids[-1] >= inventory.image_count:
        raise SourceError(
            f"{origin.join(STIMULI_FILE)}: {inventory.image_count} images where the design shows "
            f"nsd_id {ids[-1]}; take both from the same release"
        )
    arrays = count_coordinates("image")
    cut = cut_images(images=len(ids), size=settings.image_size, arrays=arrays, layout=settings.layout)
    return ImageJob(origin, workspace.built, settings, sessions, len(ids), cut, before)


def image_tasks(job: ImageJob, inventory: Inventory) -> list[Task]:
    """The tasks of the images, one per shard."""
    shard_images = job.cut.shard[0]
    original = math.prod(inventory.image_shape)
    shards = -(-job.count // shard_images)
    memory = Memory.with_numpy(images=READ_IMAGES * (original + 3 * job.settings.image_size**2))
    create = Task(
        key="coordinates-images",
        function=create_images,
        job=job,
        stage="coordinates",
        memory=Memory.with_numpy(),
        files=job.cut.files - shards,
    )
    sizes = [min(shard_images, job.count - shard * shard_images) for shard in range(shards)]
    write = [
        Task(
            key=f"images-{shard:04d}",
            function=write_images,
            job=ImageShardJob(job, shard),
            stage="images",
            after=(create.key,),
            memory=memory,
            reads=count * original,
            writes=count * 3 * job.settings.image_size**2,
            files=1,
        )
        for shard, count in enumerate(sizes)
    ]
    verify = Task(
        key="verify-images",
        function=verify_images,
        job=job,
        stage="verification",
        after=tuple(task.key for task in write),
        memory=memory,
        reads=SAMPLED_IMAGES * original,
    )
    return [create, *write, verify]
