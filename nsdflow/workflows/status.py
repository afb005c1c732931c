"""``nsdflow status``: how far runs and ingestions are, from what they wrote; nothing needs to be running."""

from __future__ import annotations

from nsdflow.cluster.events import read_log
from nsdflow.cluster.hold import holder
from nsdflow.config.files import filesystem, reaching
from nsdflow.errors import MissingDataError
from nsdflow.store.files import exists
from nsdflow.workflows import markers
from nsdflow.workflows.runfolder import RunFolder

__all__ = ["describe_status"]


def describe_status(folder: str) -> str:
    """A paragraph for a run, for each run of a folder of runs, or for a store that is being built.

    Raises
    ------
    MissingDataError
        If there is nothing of the kind.
    """
    place = folder.rstrip("/")
    store = place.removesuffix(".building")
    if exists(f"{place}/run.yaml"):
        return _describe_run(place)
    runs = [name for name in _names(place) if exists(f"{place}/{name}/run.yaml")]
    if runs:
        return "\n\n".join(_describe_run(f"{place}/{name}") for name in runs)
    if exists(f"{store}.building"):
        return "\n".join([f"{store}.building: being built", *_driver(store), *_stages(f"{store}.building")])
    if exists(f"{place}/zarr.json"):
        return f"{place}: a published store"
    raise MissingDataError(f"{place}: neither a run, nor a folder of runs, nor a store being built")


def _names(folder: str) -> list[str]:
    """What is in a folder, sorted; nothing if there is none."""
    with reaching(folder):
        system, path = filesystem(folder)
        try:
            return sorted(entry.rstrip("/").rpartition("/")[2] for entry in system.ls(path, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []


def _describe_run(path: str) -> str:
    folder = RunFolder(path)
    record = folder.record()
    finished = folder.finished
    state = "finished" if finished else "not finished; run the same command to continue"
    lines = [f"{path}: {record['pipeline']['kind']} pipeline of {record['created']}, {state}"]
    lines += [*_driver(f"{path}/driver"), *_stages(path)]
    events = read_log(folder.url("log.jsonl")) if folder.exists("log.jsonl") else []
    epochs = {event["group"]: event for event in events if event["kind"] == "epoch"}
    for group, event in epochs.items():
        left = (event["epochs"] - event["epoch"]) * event["seconds"]
        lines.append(
            f"  {group}: epoch {event['epoch']} of {event['epochs']}, loss {event['loss']:.3f}, "
            f"median holdout r {event['accuracy']:.3f}, {event['seconds']:.1f} s an epoch, {left / 60:.0f} min left"
        )
    failures = [event for event in events if event["kind"] == "task-failed"]
    if failures and not finished:
        lines.append(f"  last failure: {failures[-1]['error']}")
    return "\n".join(lines)


def _driver(target: str) -> list[str]:
    line = holder(target)
    return [] if line is None else [f"  {line}"]


def _stages(folder: str) -> list[str]:
    return [f"  {stage}: {done} of {total} tasks" for stage, (done, total) in markers.progress(folder).items()]
