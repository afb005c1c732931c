"""The folder of one run: what it is of, whether it is done, and that it is never two things at once."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from nsdflow.errors import RunError
from nsdflow.io.folders import exists
from nsdflow.io.read import read_bytes
from nsdflow.io.write import write_text
from nsdflow.runs.provenance import provenance
from nsdflow.runs.results import has_results
from nsdflow.store import open_store

if TYPE_CHECKING:
    from nsdflow.config.pipeline import PipelineBase

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """``runs/NAME``: ``run.yaml`` first, ``results.zarr`` last."""

    path: str

    @classmethod
    def of(cls, pipeline: PipelineBase, runs: str) -> RunFolder:
        """The folder a pipeline's run has among ``runs``."""
        return cls(f"{str(runs).rstrip('/')}/{pipeline.name}")

    def sibling(self, name: str) -> RunFolder:
        """Another run among the same runs, or one at a path of its own."""
        return RunFolder(name if "/" in name else f"{self.path.rsplit('/', 1)[0]}/{name}")

    def url(self, *parts: str) -> str:
        """Path of something in the folder."""
        return "/".join([self.path.rstrip("/"), *parts])

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""
        return exists(self.url(name))

    @property
    def finished(self) -> bool:
        """Whether the results are there; they are published in one step, after everything else."""
        return has_results(self.path)

    def record(self) -> dict[str, Any]:
        """What ``run.yaml`` says."""
        try:
            record = yaml.safe_load(read_bytes(self.url("run.yaml")))
        except yaml.YAMLError:
            record = None
        if not isinstance(record, dict) or not {"pipeline", "store"} <= record.keys():
            raise RunError(f"{self.url('run.yaml')} is damaged; delete the folder and run again")
        return record

    def begin(self, pipeline: PipelineBase, store: str) -> None:
        """Write ``run.yaml``, or check that the one that is there says the same.

        Raises
        ------
        RunError
            If the folder holds a run of another pipeline, other settings or another store.
        """
        says = {"pipeline": pipeline.model_dump(mode="json"), "store": store_identity(store)}
        if not self.exists("run.yaml"):
            created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            record = {"created": created, **says, **provenance()}
            write_text(self.url("run.yaml"), yaml.safe_dump(record, sort_keys=False))
            return
        said = self.record()
        if differs := _differences(said, says):
            raise RunError(
                f"{self.path} holds a run with other settings ({'; '.join(differs)}); "
                "choose another name with --set name=..., or delete the folder"
            )


def store_identity(store: str) -> dict[str, Any]:
    """Where a store is and what it holds, as far as it matters to a result."""
    attributes = json.dumps(open_store(store).attrs, sort_keys=True)
    return {"url": store, "identity": hashlib.sha256(attributes.encode()).hexdigest()[:16]}


def _differences(said: dict[str, Any], says: dict[str, Any]) -> list[str]:
    old, new = _flat(said["pipeline"]), _flat(says["pipeline"])
    changed = [key for key in new if old.get(key) != new[key]]
    changed += [key for key in old if key not in new]
    lines = [f"{key} was {json.dumps(old.get(key))}, now {json.dumps(new.get(key))}" for key in sorted(changed)]
    if said["store"]["identity"] != says["store"]["identity"]:
        lines.append("the store holds other data")
    return lines


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by dotted key."""
    if not isinstance(value, dict):
        return {prefix.rstrip("."): value}
    return {key: leaf for name, inner in value.items() for key, leaf in _flat(inner, f"{prefix}{name}.").items()}
