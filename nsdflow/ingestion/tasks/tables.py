"""Task: the group of a subject with the coordinates of its trials and voxels."""

from __future__ import annotations

from typing import Any

from nsdflow.engine.plan import task
from nsdflow.errors import SourceError
from nsdflow.ingestion.stamps import coordinate_stamps
from nsdflow.ingestion.tasks.jobs import TableJob
from nsdflow.ingestion.tasks.voxels import read_voxels
from nsdflow.io.paths import public
from nsdflow.nsd.design import trial_table
from nsdflow.store.build import create_subject

__all__ = ["create_subject_group"]


@task("ingest.coordinates", version=2)
def create_subject_group(job: TableJob) -> dict[str, Any]:
    """Create a subject's group with the coordinates of its trials and voxels, and the large arrays without values.

    Raises
    ------
    SourceError
        A file changed since the ingestion was planned, or gives another number of voxels.
    """
    subject = job.subject
    source = subject.source
    now = coordinate_stamps(source, subject.subject, subject.space, subject.betas)
    if now != dict(job.stamps):
        changed = sorted(file for file in now.keys() | job.stamps.keys() if now.get(file) != job.stamps.get(file))
        raise SourceError(
            f"{source.join(changed[0])}: changed since the ingestion was planned; run the same command again"
        )
    voxels, left_out = read_voxels(job)
    trials = trial_table(source, subject.subject, subject.sessions)
    if voxels.sizes["voxel"] != subject.voxel_count:
        raise SourceError(
            f"{subject.subject}: {voxels.sizes['voxel']} voxels in {subject.settings.voxels} where "
            f"{subject.voxel_count} were planned; the source changed, run the same command again"
        )
    create_subject(
        subject.built,
        subject.subject,
        trials=trials,
        voxels=voxels,
        sessions=len(subject.sessions),
        dtype=subject.dtype,
        cut=subject.cut,
        attributes={
            "subject": subject.subject,
            "space": subject.space,
            "betas_version": subject.betas,
            "voxel_set": subject.settings.voxels,
            "sessions": list(subject.sessions),
            "shape": list(subject.shape),
            "source": public(source.url),
        }
        | ({"affine": list(subject.affine)} if subject.affine else {}),
    )
    return {"trials": trials.sizes["trial"], "voxels": subject.voxel_count} | (
        {"left_out": left_out} if left_out else {}
    )
