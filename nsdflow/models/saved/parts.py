"""Pieces that saved models of all kinds consist of, and the description that their file carries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from nsdflow.errors import SelectionError, one_of

__all__ = ["Part", "below", "only_subject", "pack_about", "unpack_about"]

#: Tensor of bytes that holds the description of a model as JSON. Files of GNet runs have none.
ABOUT: Final = "about"


@dataclass(frozen=True)
class Part:
    """An encoder with the readout of some voxels."""

    name: str
    encoder: nn.Module
    """Images (image, 3, y, x) to what the readout takes."""
    readout: nn.Module
    """Output of the encoder to predictions (image, voxel)."""
    columns: Tensor | None = None
    """(voxel,) int64 places of the voxels among those of the subject; the parts follow each other if None."""


def pack_about(about: Mapping[str, Any]) -> dict[str, Tensor]:
    """The description of a model as a tensor among those of its file."""
    return {ABOUT: torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)}


def unpack_about(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The description of a model; None if the file has none."""
    if ABOUT not in state:
        return None
    about: dict[str, Any] = json.loads(bytes(state[ABOUT].tolist()))
    return about


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors under a dotted prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}


def only_subject(file: Path, subject: str | None, subjects: Sequence[str]) -> str:
    """The subject that was asked for, or the only one.

    Raises
    ------
    SelectionError
        There is no such subject, or several and none was named.
    """
    if subject is None and len(subjects) == 1:
        return subjects[0]
    if subject is None:
        raise SelectionError(
            f"{file}: models of {', '.join(subjects)}; name one, such as load_model(run, {subjects[0]!r})"
        )
    if subject not in subjects:
        raise one_of(f"subject of {file}", subject, subjects)
    return subject
