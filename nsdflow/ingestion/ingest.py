"""From NSD's files to a store: listed and planned, executed on Dask, verified, then published.

Stages: the groups with their coordinates (one task per subject, one for the images), then betas (one task per session)
and images (one task per shard) in any order, then each subject's statistics, then verification. Publishing comes last,
in the process that called :func:`carry_out`. Executing the same plan again continues after whatever stopped it. An
ingestion into a store that exists adds the subjects and sessions that it lacks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import nsdflow
from nsdflow.engine.driver_lock import holding
from nsdflow.engine.execute import execute
from nsdflow.errors import StoreError
from nsdflow.ingestion.annotations import add_annotations
from nsdflow.ingestion.growth import exchange
from nsdflow.ingestion.image_choices import IMAGE_CHOICES
from nsdflow.ingestion.plan import IngestPlan, plan_ingest
from nsdflow.ingestion.settings import GROWING, differences, settings_of
from nsdflow.io.folders import exists, remove
from nsdflow.io.paths import is_local, local_path
from nsdflow.io.read import read_bytes
from nsdflow.io.write import atomic_file
from nsdflow.monitor.events import make_event
from nsdflow.names import number_ranges
from nsdflow.store import Store, open_store
from nsdflow.store.build import Workspace, is_taken, publish_store
from nsdflow.store.schema import ANNOTATIONS_GROUP, STIMULI_GROUP
from nsdflow.store.verify import check_files

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.monitor.events import Listener

__all__ = ["IngestPlan", "carry_out", "finish", "plan_ingest"]


def carry_out(plan: IngestPlan, client: Client, *, resume: bool = True, listen: Listener | None = None) -> Store:
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
        Receives events of progress.

    Returns
    -------
    Store
        The published store, opened. One that held everything already is returned as it is, with the annotations that
        the plan asks for.

    Raises
    ------
    StoreError
        An interrupted ingestion with other settings or sources is in the way, more files than the budget allows were
        made, or the disk is full or may not be written.
    RunError
        Another command works on the store.
    NsdflowError
        The error of the first failing task; finished tasks stay finished.
    """
    plan.validate()

    def tell(text: str) -> None:
        if listen is not None:
            listen(make_event("note", text=text))

    with holding(plan.workspace.store, tell=tell) as hold:
        if plan.finished:
            _clear(plan.workspace, tell)
        else:
            if is_taken(plan.workspace.store) and plan.growth is None:
                raise StoreError(f"{plan.workspace.store}: exists; another command has just finished it")
            _begin(plan, resume=resume)
            _publish(plan, execute(plan, client, listen=listen, hold=hold))
    return finish(plan) if plan.finished else open_store(plan.workspace.store)


def finish(plan: IngestPlan) -> Store:
    """Open a store that holds everything of a plan but the annotations, which are added where they are asked for.

    Raises
    ------
    NsdflowError
        As for :func:`nsdflow.ingestion.annotations.add_annotations`.
    """
    if plan.annotations is None:
        return open_store(plan.workspace.store)
    return add_annotations(plan.workspace.store, plan.annotations.source, plan.annotations.folder)


def _clear(workspace: Workspace, tell: Callable[[str], None]) -> None:
    """Remove the workspace of a publication that was interrupted after its last rename; keep any other."""
    if not is_local(workspace.store) or not exists(workspace.folder):
        return
    if exists(f"{workspace.folder}/ingest.json") and exists(workspace.built):
        tell(f"{workspace.folder}: left by an ingestion that was interrupted; continue that one, or remove the folder")
    else:
        remove(workspace.folder)


def _publish(plan: IngestPlan, results: Mapping[str, Any]) -> None:
    """Count the files, record the origin of everything, and give the store its name."""
    settings = plan.manifest["settings"]
    groups = [*plan.manifest["subjects"], *([STIMULI_GROUP] if IMAGE_CHOICES[settings["images"]] else [])]
    budget = settings["layout"]["file_budget"]
    sisters = {name: list(record.get("experiments", ())) for name, record in plan.manifest["subjects"].items()}
    files = {
        group: check_files(f"{plan.workspace.built}/{group}", budget * (1 + len(sisters.get(group, ()))))
        for group in groups
    }
    attributes = {
        "subjects": list(plan.manifest["subjects"]),
        "source": plan.manifest["source"],
        **{name: settings[name] for name in ("space", "betas", "voxels")},
        **({"experiments": sisters} if any(sisters.values()) else {}),
        "created_with": f"nsdflow {nsdflow.__version__}",
    }
    if plan.manifest["synthetic"]:
        attributes["synthetic"] = {"made_by": "nsdflow synth"}
    maps = [line for result in results.values() if isinstance(result, dict) for line in result.get("left_out", ())]
    manifest = {**plan.manifest, "nsdflow": nsdflow.__version__, "files": files, "results": results}
    manifest["left_out"] = [*plan.manifest["left_out"], *maps]
    if plan.growth is None:
        publish_store(plan.workspace, attributes, manifest)
        return
    # first published in the workspace, then put in the place of the old store in one step
    grown = Workspace(f"{plan.folder}/grown", f"{plan.folder}/publication", plan.workspace.built)
    publish_store(grown, attributes, manifest)
    exchange(local_path(grown.store), local_path(plan.workspace.store))
    remove(plan.folder)


def _begin(plan: IngestPlan, *, resume: bool) -> None:
    """Make the workspace, or take up the one of an interrupted ingestion with the same settings."""
    record = f"{plan.folder}/ingest.json"
    if not resume:
        remove(plan.folder)
        if not is_local(plan.workspace.store):
            remove(plan.workspace.store)
    if exists(record):
        before, now = _comparable(_read_record(record)), _comparable(json.loads(json.dumps(plan.manifest)))
        if changed := differences(before, now):
            raise StoreError(
                f"{plan.folder}: begun with other {', '.join(sorted(changed))} ({'; '.join(changed.values())}); "
                "ingest as before to continue, or begin again with --no-resume"
            )
    if plan.growth is not None and exists(f"{plan.folder}/grown"):  # a publication was interrupted
        remove(plan.workspace.built)
        local_path(f"{plan.folder}/grown").rename(local_path(plan.workspace.built))
    missing = {task.key for task in plan.missing()}
    for subject, made in plan.manifest["subjects"].items():
        groups = {subject: f"coordinates-{subject}"}
        groups |= {f"{subject}/{name}": f"coordinates-{subject}-{name}" for name in made.get("experiments", ())}
        for group, key in groups.items():
            if key in missing:  # made from a file that was replaced meanwhile, or not made at all
                remove(f"{plan.workspace.built}/{group}")
    if "annotations" in missing:
        remove(f"{plan.workspace.built}/{ANNOTATIONS_GROUP}")
    with atomic_file(record) as file:
        file.write(json.dumps(plan.manifest, indent=1).encode())


def _read_record(url: str) -> dict[str, Any]:
    try:
        record = json.loads(read_bytes(url))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise StoreError(f"{url}: damaged; begin again with --no-resume")
    if "settings" not in record:
        raise StoreError(f"{url}: begun by an earlier version of nsdflow; begin again with --no-resume")
    return record


def _comparable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Values that must be equal to continue: every setting, the design, the images, sessions and voxels.

    Stamps of a subject's files are not: where a file was replaced, its tasks run again.
    """
    subjects = {
        name: f"{record.get('voxels')} voxels, sessions {number_ranges(record.get('sessions', ()))}"
        for name, record in manifest.get("subjects", {}).items()
    }
    rest = {name: manifest.get(name) for name in ("design", "stimuli", "annotations", "before")}
    settings = {name: value for name, value in settings_of(manifest).items() if name not in GROWING}
    return {**settings, **rest, "subjects": subjects}
