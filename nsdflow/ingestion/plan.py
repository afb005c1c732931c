"""The tasks of an ingestion, and what each of them costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from nsdflow.engine.plan import Task
from nsdflow.errors import MissingDataError, SourceError
from nsdflow.ingestion import tasks
from nsdflow.nsd import layout as paths
from nsdflow.nsd.design import BEHAVIOUR
from nsdflow.nsd.masks import voxel_set
from nsdflow.store.build import STATISTICS
from nsdflow.store.schema import cut_images, cut_subject

if TYPE_CHECKING:
    from nsdflow.config.storage import Layout
    from nsdflow.nsd.design import Design
    from nsdflow.nsd.inventory import Inventory, SubjectInventory
    from nsdflow.nsd.source import Source
    from nsdflow.store.build import Workspace

__all__ = ["STAGES", "image_job", "image_tasks", "subject_job", "subject_tasks"]

#: In the order in which tasks are handed in.
STAGES: Final = ("coordinates", "betas", "images", "statistics", "verification")
#: What a worker's interpreter takes before it reads anything.
INTERPRETER_BYTES: Final = 250 << 20
#: Coordinates of a trial besides behaviour, of a voxel besides atlases, and of an image.
COORDINATES: Final = {"trial": 7, "voxel": 6, "image": 3}


def subject_job(
    origin: Source, workspace: Workspace, found: SubjectInventory, voxels: str, design: Design, layout: Layout
) -> tasks.SubjectJob:
    """What the tasks of a subject have in common."""
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
    count = int(voxel_set(origin, found.subject, voxels, space=found.space, shape=found.shape).sum())
    if not count:
        raise SourceError(f"{found.subject}: no voxel in {voxels}; choose another voxel set")
    dtype = "float32" if found.space == "fsaverage" else "int16"
    cut = cut_subject(
        sessions=len(found.sessions),
        trials=found.trials,
        voxels=count,
        itemsize=4 if dtype == "float32" else 2,
        arrays=COORDINATES["trial"] + len(BEHAVIOUR) + COORDINATES["voxel"] + len(found.atlases),
        layout=layout,
    )
    return tasks.SubjectJob(
        source=asdict(origin),
        built=workspace.built,
        folder=workspace.folder,
        subject=found.subject,
        space=found.space,
        betas=found.betas,
        voxels=voxels,
        voxel_count=count,
        sessions=list(found.sessions),
        trials=found.trials,
        shape=list(found.shape),
        affine=[value for row in found.affine for value in row] if found.affine else None,
        dtype=dtype,
        cut=asdict(cut),
    )


def subject_tasks(job: tasks.SubjectJob, found: SubjectInventory, stamps: Mapping[str, Any]) -> list[Task]:
    """The tasks of a subject, from its inventory and the stamps of its files."""
    name, common = job.subject, {"job": asdict(job)}
    sessions = _session_tasks(job, found, stamps)
    volume_bytes = math.prod(job.shape) * 8
    create = Task(
        key=f"coordinates-{name}",
        function=tasks.create_subject_group,
        arguments={**common, "stamps": stamps["coordinates"]},
        stage="coordinates",
        memory=INTERPRETER_BYTES + (len(found.atlases) + 8) * volume_bytes,
        files=job.cut["files"] - sum(task.files for task in sessions) - len(STATISTICS),
    )
    statistics_bytes = len(job.sessions) * job.voxel_count * 10  # two float32 and two bool
    gather = Task(
        key=f"statistics-{name}",
        function=tasks.gather_statistics,
        arguments=common,
        stage="statistics",
        after=tuple(task.key for task in sessions),
        memory=INTERPRETER_BYTES + 2 * statistics_bytes,
        reads=statistics_bytes,
        writes=statistics_bytes,
        files=len(STATISTICS),
    )
    verify = Task(
        key=f"verify-{name}",
        function=tasks.verify_subject,
        arguments=common,
        stage="verification",
        after=(gather.key,),
        memory=sessions[0].memory,
        reads=tasks.SAMPLED_SESSIONS * (sessions[0].reads + sessions[0].writes),
    )
    return [create, *sessions, gather, verify]


def _session_tasks(job: tasks.SubjectJob, found: SubjectInventory, stamps: Mapping[str, Any]) -> list[Task]:
    """The tasks that write betas, one a session."""
    itemsize = 4 if job.dtype == "float32" else 2
    session_bytes = job.trials * job.voxel_count * itemsize
    # a volume; chunks, widened to float64 for their statistics, and compressed
    chunk_bytes = job.trials * job.cut["chunk"][1] * (2 * itemsize + 8)
    buffers = itemsize * math.prod(job.shape) + job.shards_at_once * chunk_bytes
    return [
        Task(
            key=f"betas-{job.subject}-session{session:02d}",
            function=tasks.write_session,
            arguments={"job": asdict(job), "session": session, "stamps": stamps[str(session)]},
            stage="betas",
            after=(f"coordinates-{job.subject}",),
            memory=INTERPRETER_BYTES + session_bytes + buffers,
            reads=found.bytes // len(job.sessions),
            writes=session_bytes,
            files=math.ceil(job.voxel_count / job.cut["shard"][1]),
        )
        for session in job.sessions
    ]


def image_job(
    origin: Source,
    workspace: Workspace,
    shown: Mapping[str, list[int]] | None,
    inventory: Inventory,
    size: int,
    layout: Layout,
) -> tasks.ImageJob:
    """What the tasks of the images have in common."""
    if not inventory.image_count:
        raise MissingDataError(
            f"{origin.join(paths.STIMULI)}: no images there; fetch them, or ingest without: --images none"
        )
    count = inventory.image_count
    if shown is not None:
        ids = tasks.shown_images(origin, shown)
        if ids[-1] >= inventory.image_count:
            raise SourceError(
                f"{origin.join(paths.STIMULI)}: {inventory.image_count} images where the design shows "
                f"nsd_id {ids[-1]}; take both from the same release"
            )
        count = len(ids)
    cut = cut_images(images=count, size=size, arrays=COORDINATES["image"], layout=layout)
    return tasks.ImageJob(asdict(origin), workspace.built, shown, count, size, asdict(cut))


def image_tasks(job: tasks.ImageJob, inventory: Inventory) -> list[Task]:
    """The tasks of the images, one a shard."""
    common, cut = {"job": asdict(job)}, job.cut
    original = math.prod(inventory.image_shape)
    shards = -(-job.count // cut["shard"][0])
    memory = INTERPRETER_BYTES + tasks.IMAGES_AT_ONCE * (original + 3 * job.size**2)
    create = Task(
        key="coordinates-images",
        function=tasks.create_images,
        arguments=common,
        stage="coordinates",
        memory=INTERPRETER_BYTES,
        files=cut["files"] - shards,
    )
    sizes = [min(cut["shard"][0], job.count - shard * cut["shard"][0]) for shard in range(shards)]
    write = [
        Task(
            key=f"images-{shard:04d}",
            function=tasks.write_images,
            arguments={**common, "shard": shard},
            stage="images",
            after=(create.key,),
            memory=memory,
            reads=count * original,
            writes=count * 3 * job.size**2,
            files=1,
        )
        for shard, count in enumerate(sizes)
    ]
    verify = Task(
        key="verify-images",
        function=tasks.verify_images,
        arguments=common,
        stage="verification",
        after=tuple(task.key for task in write),
        memory=memory,
        reads=tasks.SAMPLED_IMAGES * original,
    )
    return [create, *write, verify]
