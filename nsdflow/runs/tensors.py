"""Tensors by name in one safetensors file, at a path or URL; it is whole or absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load, save

from nsdflow.errors import RunError
from nsdflow.io.read import read_bytes
from nsdflow.io.write import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_tensors", "save_tensors"]


def save_tensors(url: str, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device.

    Raises
    ------
    StoreError
        The disk is full or may not be written, or the object store cannot be reached.
    """
    with atomic_file(url) as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def load_tensors(url: str) -> dict[str, Tensor]:
    """Read them, to the CPU.

    Raises
    ------
    FileNotFoundError
        No such file.
    RunError
        It is damaged.
    """
    try:
        return load(read_bytes(url))
    except SafetensorError as error:
        raise RunError(f"{url}: damaged ({error}); remove it and run the same command again") from error
