"""``nsdflow status``: how far runs and ingestions are, from what they wrote; nothing needs to be running."""

from __future__ import annotations

from pathlib import Path

from nsdflow.cluster.events import read_log
from nsdflow.errors import MissingDataError
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
    path = Path(folder)
    building = path if path.name.endswith(".building") else path.with_name(f"{path.name}.building")
    if (path / "run.yaml").exists():
        return _describe_run(path)
    runs = sorted(path.glob("*/run.yaml"))
    if runs:
        return "\n\n".join(_describe_run(run.parent) for run in runs)
    if building.exists():
        return "\n".join([f"{building}: being built", *_stages(building)])
    if (path / "zarr.json").exists():
        return f"{path}: a published store"
    raise MissingDataError(f"{path}: neither a run, nor a folder of runs, nor a store being built")


def _describe_run(path: Path) -> str:
    folder = RunFolder(str(path))
    record = folder.record()
    state = "finished" if folder.finished else "not finished; run the same command to continue"
    lines = [f"{path}: {record['pipeline']['kind']} pipeline of {record['created']}, {state}", *_stages(path)]
    log = path / "log.jsonl"
    events = read_log(log) if log.exists() else []
    epochs = {event["group"]: event for event in events if event["kind"] == "epoch"}
    for group, event in epochs.items():
        left = (event["epochs"] - event["epoch"]) * event["seconds"]
        lines.append(
            f"  {group}: epoch {event['epoch']} of {event['epochs']}, loss {event['loss']:.3f}, "
            f"median holdout r {event['accuracy']:.3f}, {event['seconds']:.1f} s an epoch, {left / 60:.0f} min left"
        )
    failures = [event for event in events if event["kind"] == "task-failed"]
    if failures and not folder.finished:
        lines.append(f"  last failure: {failures[-1]['error']}")
    return "\n".join(lines)


def _stages(folder: Path) -> list[str]:
    return [f"  {stage}: {done} of {total} tasks" for stage, (done, total) in markers.progress(str(folder)).items()]
