"""The folder of one run: its settings, whether it is finished, and the check that it is never reused for others."""

from __future__ import annotations

import datetime
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from nsdflow.config.documents import dotted
from nsdflow.config.pipeline import PipelineBase
from nsdflow.errors import MissingDataError, RunError, StoreError
from nsdflow.io.folders import exists, list_folder
from nsdflow.io.paths import normalize
from nsdflow.io.write import write_text
from nsdflow.io.yaml_files import read_yaml
from nsdflow.runs.identity import changed_inputs, input_identity, is_same_store, same_voxels, store_identity
from nsdflow.runs.provenance import provenance
from nsdflow.runs.results import has_results
from nsdflow.runs.trust import require_own_file

__all__ = ["RunFolder", "read_record"]

#: Names that tasks and drivers write in the folder; a link of such a name could lead out of it.
WRITTEN: Final = (
    "run.yaml", "results.zarr", "model.safetensors", "projection.safetensors", "coefficients", "weights.zarr",
    "checkpoint", "parts", "features", "tasks", "plan.json",
    "log.jsonl", "performance.html", "report.html",
)  # fmt: skip


#: Folders with what an unfinished run has made of its inputs.
_WORK: Final = ("tasks", "parts", "checkpoint")
#: Parts of ``run.yaml`` that are mappings.
_SECTIONS: Final = frozenset({"pipeline", "store", "inputs", "versions", "machine"})


@dataclass(frozen=True)
class RunFolder:
    """``runs/NAME``: ``run.yaml`` is written first, ``results.zarr`` last."""

    path: str

    @classmethod
    def of(cls, pipeline: PipelineBase, runs: str) -> RunFolder:
        """The folder of a pipeline's run in ``runs``."""
        return cls(f"{str(runs).rstrip('/')}/{pipeline.name}")

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    def sibling(self, name: str) -> RunFolder:
        """Another run in the same folder of runs, or the run at a path."""
        return RunFolder(normalize(name) if "/" in name else f"{self.path.rsplit('/', 1)[0]}/{name}")

    def url(self, *parts: str) -> str:
        """Path of a file in the folder."""
        return "/".join([self.path.rstrip("/"), *parts])

    def exists(self, name: str) -> bool:
        """Whether the folder contains a file or folder of this name."""
        return exists(self.url(name))

    @property
    def finished(self) -> bool:
        """Whether the results are complete; they are published in one step, after everything else."""
        return has_results(self.path)

    def record(self) -> dict[str, Any]:
        """The contents of ``run.yaml``.

        Raises
        ------
        MissingDataError
            There is no ``run.yaml``.
        RunError
            It is damaged.
        """
        record, url = read_record(self.path), self.url("run.yaml")
        if not (isinstance(record.get("pipeline"), dict) and isinstance(record.get("store"), dict)):
            raise RunError(
                f"{url}: damaged, no pipeline or store in it; restore it, or delete the folder and run again"
            )
        return record

    def add_to_record(self, **entries: Any) -> None:
        """Add entries to ``run.yaml``, such as the network that a task has opened; without the file, do nothing.

        Raises
        ------
        RunError
            ``run.yaml`` is damaged.
        """
        if self.exists("run.yaml"):
            write_text(self.url("run.yaml"), yaml.safe_dump({**self.record(), **entries}, sort_keys=False))

    def begin(self, pipeline: PipelineBase, store: str, files: Mapping[str, Sequence[str]] | None = None) -> None:
        """Write ``run.yaml``, or check that the existing one describes the same run.

        ``files`` are further ones from which the run is made, by a name for messages.

        Raises
        ------
        RunError
            The folder holds a run of another pipeline, other settings or inputs, or a link leads out of it.
        """
        for name in WRITTEN:
            require_own_file(self.url(name))
        if self.exists("run.yaml"):
            if self.check(pipeline, store, files):
                self.add_to_record(inputs=input_identity(pipeline, store, self._path_of, files))
            return
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        inputs = input_identity(pipeline, store, self._path_of, files)
        record = {"created": created, **_description(pipeline, store), "inputs": inputs, **provenance()}
        write_text(self.url("run.yaml"), yaml.safe_dump(record, sort_keys=False))

    def _path_of(self, run: str) -> str:
        return self.sibling(run).path

    def check(self, pipeline: PipelineBase, store: str, files: Mapping[str, Sequence[str]] | None = None) -> list[str]:
        """Check that the run in the folder, if any, is the same. Writes nothing.

        Returns
        -------
        list of str
            Inputs that have changed, and that the run takes: nothing is made of them, or what is made runs again.

        Raises
        ------
        RunError
            The folder holds a run of another pipeline, other settings or another store, or the content of a file or
            run that it reads has changed.
        """
        if not self.exists("run.yaml"):
            return []
        says, said = _description(pipeline, store), self.record()
        chosen = set(dotted(pipeline.model_dump(mode="json", exclude_defaults=True)))
        if (
            self.finished
            and "voxels" not in said["pipeline"]
            and same_voxels(store, said["pipeline"], says["pipeline"])
        ):
            chosen.discard("voxels")
        differs = _differences(said, says, chosen)
        changed = [] if differs else changed_inputs(said.get("inputs"), pipeline, store, self._path_of, files)
        mixed = changed
        if not self.finished and pipeline.takes_new_files():
            mixed = [name for name in changed if not name.startswith("file ")]
        if mixed and (self.finished or any(list_folder(self.url(name)) for name in _WORK)):
            differs = [f"the {name} holds other data" for name in mixed]
        if differs:
            raise RunError(
                f"{self.path} holds a run with other settings ({'; '.join(differs)}); "
                "choose another name with --set name=..., or delete the folder"
            )
        return changed


def _description(pipeline: PipelineBase, store: str) -> dict[str, Any]:
    """The entries of ``run.yaml`` that identify a run."""
    return {"pipeline": pipeline.model_dump(mode="json"), "store": store_identity(store)}


def read_record(run: str) -> dict[str, Any]:
    """The contents of a run's ``run.yaml``, not validated.

    Raises
    ------
    MissingDataError
        There is no ``run.yaml``.
    RunError
        It is damaged.
    """
    url = f"{run.rstrip('/')}/run.yaml"
    try:
        record = read_yaml(url, "restore it, or delete the folder and run again")
    except FileNotFoundError:
        raise MissingDataError(f"{url}: no run there; the folder of a run has run.yaml and results.zarr") from None
    except StoreError as error:
        raise RunError(str(error)) from None
    for part in _SECTIONS & record.keys():
        if not isinstance(record[part], dict):
            raise RunError(f"{url}: damaged, {part} is no section; restore it, or delete the folder and run again")
    return record


def _differences(said: dict[str, Any], says: dict[str, Any], chosen: Container[str]) -> list[str]:
    """Settings that differ. Newer settings that a run of an earlier version lacks count as their defaults."""
    old, new = dotted(said["pipeline"]), dotted(says["pipeline"])
    changed = [key for key in new if (not _same(old[key], new[key]) if key in old else key in chosen)]
    changed += [key for key in old if key not in new]
    lines = [f"{key} was {json.dumps(old.get(key))}, now {json.dumps(new.get(key))}" for key in sorted(changed)]
    if not is_same_store(said["store"], says["store"]):
        lines.append(f"the store {says['store']['url']} holds other data")
    return lines


def _same(old: Any, new: Any) -> bool:
    """Whether two values of a setting are the same; version 0.1.0 recorded relative paths."""
    return bool(old == new) or (isinstance(new, str) and new == f"{Path.cwd()}/{old}")
