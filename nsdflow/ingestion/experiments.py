"""The sister experiments of an ingestion: their files in a source, their tasks, and the cost of each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

from nsdflow.config.storage import Layout
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Task
from nsdflow.errors import MissingDataError, NsdflowError, SourceError
from nsdflow.ingestion.costs import session_task, statistics_task, verify_task
from nsdflow.ingestion.stamps import experiment_stamps, session_listing, session_stamps
from nsdflow.ingestion.tasks.experiments import (
    READ_EXPERIMENT_IMAGES,
    create_experiment_group,
    measure_ncsnr,
    write_experiment_images,
)
from nsdflow.ingestion.tasks.jobs import ExperimentJob, SessionJob, SubjectJob, VerifyJob
from nsdflow.nsd.betas import SessionHeader, read_session_header
from nsdflow.nsd.experiments import EXPERIMENTS
from nsdflow.nsd.source import Source
from nsdflow.store.schema import STATISTICS
from nsdflow.store.shard_sizes import cut_images, cut_subject

__all__ = ["PlannedExperiment", "describe_experiments", "plan_experiment"]

#: Coordinates of a sister experiment's trials, images and voxels.
COORDINATE_COUNT: Final = 12
#: Bytes of an original image, the largest that NSD published: 714 x 1360 pixels.
ORIGINAL_BYTES: Final = 714 * 1360 * 3


@dataclass(frozen=True)
class PlannedExperiment:
    """The tasks of one sister experiment of one subject, and its entry in the manifest."""

    tasks: tuple[Task, ...]
    record: dict[str, Any]


def plan_experiment(subject: SubjectJob, experiment: str, layout: Layout, *, image_size: int) -> PlannedExperiment:
    """Plan the tasks of a sister experiment of a subject.

    Parameters
    ----------
    experiment : str
        A key of :data:`nsdflow.nsd.experiments.EXPERIMENTS`.
    layout : Layout
        Chunks, shards, codec and file budget.
    image_size : int
        Pixels per side of its images; 0 for none.

    Raises
    ------
    MissingDataError
        The source lacks the experiment, or a file of it.
    SourceError
        Its betas are on another grid, or its files contradict each other.
    """
    source, record = subject.source, EXPERIMENTS[experiment]
    header = _header(source, subject.subject, experiment, subject.space, subject.betas)
    if header.shape != subject.shape:
        raise SourceError(
            f"{source.join(header.paths[0])}: a grid of {header.shape} where the main experiment has {subject.shape}; "
            "take both from the same subject, space and release"
        )
    images = record.list_images(source, subject.subject).sizes["image"] if image_size else 0
    stamps = experiment_stamps(source, subject.subject, experiment)
    wanted = [*record.design_files(subject.subject), *(record.image_files(source, subject.subject) if images else ())]
    for path in wanted:
        if path not in stamps:
            raise MissingDataError(f"{source.join(path)}: no such file; fetch it, or leave {experiment} out")
    if (count := record.read_trials(source, subject.subject).sizes["trial"]) != header.trials:
        raise SourceError(
            f"{source.join(wanted[0])}: {count} trials where the betas of {subject.subject} in {record.title} have "
            f"{header.trials}; take both from the same release"
        )
    itemsize = 4 if subject.dtype == "float32" else 2
    cut = cut_subject(
        sessions=1,
        trials=header.trials,
        voxels=subject.voxel_count,
        itemsize=itemsize,
        arrays=COORDINATE_COUNT,
        layout=layout,
    )
    job = replace(
        subject,
        sessions=(1,),
        trials=header.trials,
        cut=cut,
        experiment=experiment,
    )
    image_cut = cut_images(images=images, size=image_size, arrays=2, layout=layout) if images else None
    files = session_stamps(
        session_listing(source, job.subject, job.space, job.betas), record.file_name, job.space, header.format
    )
    tasks = _tasks(ExperimentJob(job, image_size, image_cut, stamps), header.format, files, images)
    return PlannedExperiment(tasks, {"trials": header.trials, "files": {**stamps, "betas": list(files)}})


def _header(source: Source, subject: str, experiment: str, space: str, betas: str) -> SessionHeader:
    record = EXPERIMENTS[experiment]
    return read_session_header(source, subject, record.file_name, space=space, betas=record.betas(betas))


def _tasks(job: ExperimentJob, format: str, stamps: tuple[str, ...], images: int) -> tuple[Task, ...]:
    subject = job.subject
    name, itemsize = subject.name, 4 if subject.dtype == "float32" else 2
    betas = session_task(
        f"betas-{name}",
        SessionJob(subject, 1, format, stamps),
        reads=subject.trials * itemsize * math.prod(subject.shape),
        after=f"coordinates-{name}",
    )
    create = Task(
        key=f"coordinates-{name}",
        function=create_experiment_group,
        job=job,
        stage="coordinates",
        after=(f"coordinates-{subject.subject}",),
        memory=Memory.with_numpy(),
        files=subject.cut.files
        - betas.files
        - len(STATISTICS)
        + (0 if job.image_cut is None else job.image_cut.files - math.ceil(images / job.image_cut.shard[0])),
    )
    gather = statistics_task(subject, (betas.key,))
    ncsnr = Task(
        key=f"ncsnr-{name}",
        function=measure_ncsnr,
        job=subject,
        stage="statistics",
        after=(betas.key,),
        memory=Memory.with_numpy(chunk=8 * subject.trials * subject.cut.chunk[1] * (2 * itemsize + 8)),
        reads=betas.writes,
    )
    verify = verify_task(VerifyJob(subject, {1: format}), (gather.key, ncsnr.key), betas)
    if job.image_cut is None:
        return create, betas, gather, ncsnr, verify
    pixels = 3 * job.image_size**2
    pictures = Task(
        key=f"images-{name}",
        function=write_experiment_images,
        job=job,
        stage="images",
        after=(create.key,),
        memory=Memory.with_numpy(images=READ_EXPERIMENT_IMAGES * (4 * ORIGINAL_BYTES + pixels)),
        reads=images * ORIGINAL_BYTES,
        writes=images * pixels,
        files=math.ceil(images / job.image_cut.shard[0]),
    )
    return create, betas, pictures, gather, ncsnr, verify


def describe_experiments(source: Source, subject: str, space: str, betas: str) -> list[str]:
    """Lines of ``nsdflow check``: the sister experiments of a subject, if any, and the missing files of each."""
    complete, lines = [], []
    for name, record in EXPERIMENTS.items():
        if not source.listdir(f"nsddata_betas/ppdata/{subject}/{space}/{record.betas(betas)}"):
            continue
        try:
            trials = _header(source, subject, name, space, betas).trials
            stamps = experiment_stamps(source, subject, name)
            absent = [
                path
                for path in (*record.design_files(subject), *record.image_files(source, subject))
                if path not in stamps
            ]
        except NsdflowError as error:
            lines.append(f"{record.title} of {subject}: {error}")
            continue
        lines += [f"missing for {record.title} of {subject}: {source.join(path)}" for path in absent]
        if not absent:
            complete.append(f"{name} ({trials} trials)")
    found = [f"sister experiments of {subject}, for --experiments: {', '.join(complete)}"] if complete else []
    return found + lines
