"""Named tensors in one safetensors file, at a path or URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from nsdflow.errors import RunError
from nsdflow.io.read import read_bytes
from nsdflow.io.write import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_tensors", "save_tensors"]


def save_tensors(url: str, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device, as a whole.

    Parameters
    ----------
    url : str
        Path or URL.
    tensors : mapping of str to Tensor
        By name.

    Raises
    ------
    StoreError
        The disk is full or may not be written, or the object store cannot be reached.
    """
    from safetensors.torch import save  # a finished run is opened without torch

    with atomic_file(url) as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def load_tensors(url: str) -> dict[str, Tensor]:
    """Read tensors to the CPU.

    Parameters
    ----------
    url : str
        Path or URL.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    RunError
        The file is damaged.
    """
    from safetensors.torch import load

    try:
        return load(read_bytes(url))
    except SafetensorError as error:
        raise RunError(f"{url}: damaged ({error}); remove it and run the same command again") from error
