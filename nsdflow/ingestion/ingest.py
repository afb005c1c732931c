"""From NSD's files to a store: what there is is listed and planned, executed on Dask, verified, then published.

Stages: the groups with their coordinates (one task a subject, one for the images), then betas (one task a session)
and images (one task a shard) in any order, then each subject's statistics, then verification. Publishing is the last
thing, done where :func:`ingest` was called. Executing the same plan again continues after whatever stopped it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import nsdflow
from nsdflow.config.storage import Layout
from nsdflow.engine.driver_lock import holding
from nsdflow.engine.execute import execute
from nsdflow.engine.plan import Plan
from nsdflow.errors import MissingDataError, StoreError, one_of
from nsdflow.ingestion.plan import STAGES, image_job, image_tasks, subject_job, subject_tasks
from nsdflow.ingestion.stamps import subject_stamps
from nsdflow.io.folders import exists, remove
from nsdflow.io.paths import is_local
from nsdflow.io.read import read_bytes
from nsdflow.io.write import atomic_file
from nsdflow.monitor.events import make_event
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE, parse_subjects
from nsdflow.nsd import layout as paths
from nsdflow.nsd.design import read_design
from nsdflow.nsd.inventory import SubjectInventory, take_inventory
from nsdflow.nsd.source import Source, open_source
from nsdflow.store import Store, open_store
from nsdflow.store.build import Workspace, is_taken, publish, workspace_of
from nsdflow.store.schema import SCHEMA_VERSION, STIMULI
from nsdflow.store.verify import check_files

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.ingestion.tasks import SubjectJob
    from nsdflow.monitor.events import Listener

__all__ = ["IngestPlan", "ingest", "plan_ingest"]

#: Which images a store gets.
IMAGES: Final = ("shown", "all", "none")


@dataclass(frozen=True)
class IngestPlan(Plan):
    """A plan, what becomes of it, and where everything comes from."""

    workspace: Workspace = field(kw_only=True)
    manifest: Mapping[str, Any] = field(kw_only=True)
    """Sources with their stamps, and settings: an interrupted ingestion continues only with the same settings."""


def plan_ingest(
    source: str | Source,
    store: str,
    *,
    subjects: str | Iterable[int | str] | None = None,
    betas: str = DEFAULT_BETAS,
    space: str = DEFAULT_SPACE,
    voxels: str = "evc",
    image_size: int = 227,
    images: str = "shown",
    layout: Layout | None = None,
) -> IngestPlan:
    """Plan an ingestion: what would be read and written, without doing it.

    Parameters
    ----------
    source : str or Source
        Where NSD is: a folder or an fsspec URL.
    store : str
        Where the store will be.
    subjects : optional
        ``"1,2"``, ``[1, 2]`` or names; all that are there if not given.
    betas, space, voxels : str
        Version and space of the betas, and the voxel set: evc, visual, nsdgeneral, tight, inflated, brain or an atlas.
    image_size : int
        Pixels a side to which the images are resized.
    images : {"shown", "all", "none"}
        Images of the ingested trials, all of them, or none.
    layout : Layout, optional
        Chunks, shards, codec and file budget.

    Raises
    ------
    StoreError
        The target exists, or the files would be more than the budget.
    SelectionError
        No such subject, space, version or voxel set; the message lists what there is.
    SourceError
        Files of the source contradict each other.
    """
    workspace = workspace_of(store)
    if is_taken(workspace.store):
        raise StoreError(f"{workspace.store}: exists; remove it, or choose another store")
    if images not in IMAGES:
        raise one_of("choice of images", images, IMAGES)
    layout = layout or Layout()
    origin = source if isinstance(source, Source) else open_source(source)
    asked = None if subjects is None else parse_subjects(subjects)
    inventory = take_inventory(origin, space=space, betas=betas, subjects=asked)
    _check_all_there(inventory.subjects, asked or (), origin)
    design = read_design(origin)
    found = {subject.subject: subject for subject in inventory.subjects}
    jobs = {name: subject_job(origin, workspace, here, voxels, design, layout) for name, here in found.items()}
    stamps = {name: subject_stamps(origin, name, space, betas, job.sessions) for name, job in jobs.items()}
    planned = [task for name, job in jobs.items() for task in subject_tasks(job, found[name], stamps[name])]
    if images != "none":
        shown = None if images == "all" else {name: list(job.sessions) for name, job in jobs.items()}
        planned += image_tasks(image_job(origin, workspace, shown, inventory, image_size, layout), inventory)
    return IngestPlan(
        title=f"ingest {origin.url} into {workspace.store}",
        folder=workspace.folder,
        tasks=tuple(sorted(planned, key=lambda task: STAGES.index(task.stage))),
        file_budget=2 + layout.file_budget * (len(jobs) + (images != "none")),
        notes=(f"at most {layout.file_budget} files a subject, and as many for the images",),
        workspace=workspace,
        manifest={
            "schema": SCHEMA_VERSION,
            "source": origin.url,
            "space": space,
            "betas": betas,
            "voxels": voxels,
            "images": {"which": images, "size": image_size},
            "layout": layout.model_dump(),
            "design": _stamp(origin, paths.EXPERIMENT_DESIGN),
            "stimuli": _stamp(origin, paths.STIMULI) if images != "none" else None,
            "subjects": {name: _record(job, stamps[name]) for name, job in jobs.items()},
        },
    )


def _record(job: SubjectJob, stamps: Mapping[str, Any]) -> dict[str, Any]:
    return {"sessions": list(job.sessions), "voxels": job.voxel_count, "files": dict(stamps)}


def _stamp(origin: Source, path: str) -> str | None:
    folder, _, name = path.rpartition("/")
    return origin.stamps(folder).get(name)


def ingest(plan: IngestPlan, client: Client, *, resume: bool = True, listen: Listener | None = None) -> Store:
    """Carry out a planned ingestion and publish the store.

    Parameters
    ----------
    plan : IngestPlan
        From :func:`plan_ingest`.
    client : distributed.Client
        Where the tasks run.
    resume : bool
        Continue an interrupted ingestion; otherwise begin again.
    listen : callable, optional
        Gets events of progress.

    Returns
    -------
    Store
        Opened.

    Raises
    ------
    StoreError
        An interrupted ingestion with other settings or sources is in the way, more files than the budget allows were
        made, or the disk is full or may not be written.
    RunError
        Another command works on it.
    NsdflowError
        What the first failing task raised; what is done stays done.
    """
    plan.validate()

    def tell(text: str) -> None:
        if listen is not None:
            listen(make_event("note", text=text))

    with holding(plan.workspace.store, tell=tell) as hold:
        if is_taken(plan.workspace.store):
            raise StoreError(f"{plan.workspace.store}: exists; another command has just finished it")
        _begin(plan, resume=resume)
        results = execute(plan, client, listen=listen, hold=hold)
        _publish(plan, results)
    return open_store(plan.workspace.store)


def _publish(plan: IngestPlan, results: Mapping[str, Any]) -> None:
    """Count the files, say where everything came from, and give the store its name."""
    budget = plan.manifest["layout"]["file_budget"]
    groups = [*plan.manifest["subjects"], *([STIMULI] if plan.manifest["stimuli"] else [])]
    files = {group: check_files(f"{plan.workspace.built}/{group}", budget) for group in groups}
    attributes = {
        "subjects": list(plan.manifest["subjects"]),
        **{name: plan.manifest[name] for name in ("source", "space", "betas", "voxels")},
        "created_with": f"nsdflow {nsdflow.__version__}",
    }
    manifest = {**plan.manifest, "nsdflow": nsdflow.__version__, "files": files, "results": results}
    publish(plan.workspace, attributes, manifest)


def _begin(plan: IngestPlan, *, resume: bool) -> None:
    """Make the workspace, or take up the one of an interrupted ingestion of the same."""
    record = f"{plan.folder}/ingest.json"
    if not resume:
        remove(plan.folder)
        if not is_local(plan.workspace.store):
            remove(plan.workspace.store)
    if exists(record):
        before = _settings(_read_record(record))
        now = _settings(json.loads(json.dumps(plan.manifest)))
        if changed := sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name)):
            raise StoreError(
                f"{plan.folder}: begun with other {', '.join(changed)} "
                f"({'; '.join(_difference(before.get(name), now.get(name)) for name in changed)}); "
                "ingest as before to continue, or begin again with --no-resume"
            )
    missing = {task.key for task in plan.missing()}
    for subject in plan.manifest["subjects"]:
        if f"coordinates-{subject}" in missing:  # made from a file that was replaced meanwhile, or not made at all
            remove(f"{plan.workspace.built}/{subject}")
    with atomic_file(record) as file:
        file.write(json.dumps(plan.manifest, indent=1).encode())


def _read_record(url: str) -> dict[str, Any]:
    try:
        record = json.loads(read_bytes(url))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise StoreError(f"{url}: damaged; begin again with --no-resume")
    return record


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without the files of a subject: where one was replaced there are tasks to do again."""
    subjects = {
        name: {key: value for key, value in record.items() if key != "files"}
        for name, record in manifest.get("subjects", {}).items()
    }
    return {**manifest, "subjects": subjects}


def _difference(before: Any, now: Any) -> str:
    """Two values of the manifest, or of nested ones the first that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        name = next(name for name in {**before, **now} if before.get(name) != now.get(name))
        return f"{name}: {_difference(before.get(name), now.get(name))}"
    return f"{before} before, {now} now"


def _check_all_there(found: Iterable[SubjectInventory], asked: Iterable[str], origin: Source) -> None:
    names = [subject.subject for subject in found]
    if absent := sorted(set(asked) - set(names)):
        raise MissingDataError(
            f"{origin.url}: no sessions of {', '.join(absent)} in this space and version; there are {', '.join(names)}"
        )
