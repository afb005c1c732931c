"""Checkpoint of a training: its records, and the version of the file that holds them.

A checkpoint is the full state between two epochs. Raise :data:`CHECKPOINT_VERSION` when a record of this module
changes: files of another version are refused, because a training that resumes must give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nsdflow.errors import RunError
from nsdflow.fit.state_files import load_state, save_state

if TYPE_CHECKING:
    from torch import Tensor

    from nsdflow.fit.gnet.inputs import PrefilterCache

__all__ = [
    "CHECKPOINT_VERSION",
    "Checkpoint",
    "OptimizerStates",
    "Progress",
    "Snapshot",
    "check_fingerprint",
    "read_checkpoint",
    "write_checkpoint",
]

#: Version of the file. The first files had no version.
CHECKPOINT_VERSION: Final = 2


@dataclass(frozen=True)
class Snapshot:
    """Parameters and running statistics of all modules, on the CPU."""

    encoder: dict[str, Tensor]
    readouts: dict[str, dict[str, Tensor]]
    """State of each subject's readout."""


@dataclass(frozen=True)
class OptimizerStates:
    """States of all optimizers."""

    encoder: dict[str, Any] | None
    """None if the encoder is frozen."""
    readouts: dict[str, dict[str, Any]]
    """State of the optimizer of each subject's readout."""


@dataclass
class Progress:
    """Results of a training so far, apart from the state of its modules."""

    epoch: int = 0
    """Next epoch."""
    best_epoch: int | None = None
    best_score: float = 0.0
    best: Snapshot | None = None
    """Modules of the best epoch."""
    history: list[dict[str, Any]] = field(default_factory=list)
    holdout_accuracy: dict[str, list[Tensor]] = field(default_factory=dict)
    """(voxel,) holdout correlation of each subject, per epoch."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a training between two epochs."""

    fingerprint: dict[str, Any]
    """Settings and data that the training must share with the checkpoint."""
    prefilter_cache: PrefilterCache
    """Resolved cache."""
    modules: Snapshot
    optimizers: OptimizerStates
    progress: Progress
    version: int = CHECKPOINT_VERSION


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a path or URL, atomically and flushed to disk.

    Raises
    ------
    StoreError
        The disk is full or not writable. An earlier file at ``path`` is kept.
    """
    save_state(path, _mapping(checkpoint))


def read_checkpoint(path: str | Path) -> Checkpoint | None:
    """Read the checkpoint at ``path`` to the CPU; return None if the file does not exist.

    Raises
    ------
    RunError
        The file is damaged, or has another version.
    """
    state = load_state(path)
    if state is None:
        return None
    if (version := state.get("version")) != CHECKPOINT_VERSION:
        found = "an earlier version" if version is None else f"version {version}"
        raise RunError(
            f"{path}: checkpoint of {found}, this nsdflow reads version {CHECKPOINT_VERSION}; finish the training with "
            "the nsdflow that began it, or delete the file to start again"
        )
    progress = state["progress"]
    best = None if progress["best"] is None else Snapshot(**progress["best"])
    records = {
        "modules": Snapshot(**state["modules"]),
        "optimizers": OptimizerStates(**state["optimizers"]),
        "progress": Progress(**{**progress, "best": best}),
    }
    return Checkpoint(**{**state, **records})


def check_fingerprint(
    path: str | Path, checkpoint: Checkpoint, fingerprint: Mapping[str, Any], unrecorded: Mapping[str, Any]
) -> None:
    """Check that a checkpoint belongs to the training with this fingerprint.

    Parameters
    ----------
    path : str or pathlib.Path
        File of the checkpoint, for the message.
    fingerprint : mapping
        Settings and data of the training.
    unrecorded : mapping
        Value of each key that checkpoints of earlier versions lack: what their trainings did.

    Raises
    ------
    RunError
        The fingerprints differ. The message lists the differing keys.
    """
    found, fingerprint = {**unrecorded, **checkpoint.fingerprint}, {**unrecorded, **fingerprint}
    differing = sorted(key for key in {*fingerprint, *found} if fingerprint.get(key) != found.get(key))
    if differing:
        changes = ", ".join(f"{key} {found.get(key)!r} -> {fingerprint.get(key)!r}" for key in differing)
        raise RunError(f"{path}: checkpoint of another training ({changes}); delete it or use another folder")


def _mapping(record: Any) -> dict[str, Any]:
    """Turn a record into plain containers, without copies of its tensors."""
    values = {part.name: getattr(record, part.name) for part in fields(record)}
    return {name: _mapping(value) if is_dataclass(value) else value for name, value in values.items()}
