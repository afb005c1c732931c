"""Named tensors in one safetensors file, at a path or URL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import google_crc32c
from safetensors import SafetensorError

from nsdflow.errors import RunError
from nsdflow.io.read import METADATA_BYTES, open_ranges, read_bytes
from nsdflow.io.write import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_tensors", "save_tensors", "tensors_header"]

#: Metadata entry of a file with the type, shape and CRC-32C of every tensor; files of version 0.1.0 have none.
CHECKSUMS: Final = "crc32c"
#: What to do about a damaged file of a run.
RUN_AGAIN: Final = "restore it, or delete the folder of the run and run the same command again"


def save_tensors(url: str, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device, as a whole.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        By name.

    Raises
    ------
    StoreError
        The disk is full or may not be written, or the object store cannot be reached.
    """
    from safetensors.torch import save  # a finished run is opened without torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    first = save(plain)
    sums = {CHECKSUMS: json.dumps(_checksums(first))}
    del first
    with atomic_file(url) as file:
        file.write(save(plain, metadata=sums))


def load_tensors(url: str, advice: str = RUN_AGAIN) -> dict[str, Tensor]:
    """Read tensors to the CPU.

    Parameters
    ----------
    advice : str
        What to do about a damaged file; ends the message.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    RunError
        The file is damaged: not of the format, or a tensor does not match its checksum.
    StoreError
        A pipe or a device.
    """
    from safetensors.torch import load

    data = read_bytes(url)
    try:
        recorded = _header(data).get("__metadata__", {}).get(CHECKSUMS)
        if recorded is not None and json.loads(recorded) != _checksums(data):
            raise ValueError("a checksum differs")
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{url}: damaged ({error}); {advice}") from None


def tensors_header(url: str) -> bytes:
    """The header of a file of tensors, which holds their names, shapes and checksums, as bytes.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    RunError
        The file is damaged.
    """
    with open_ranges(url) as (read, _):
        length = int.from_bytes(read(0, 8), "little")
        if not 0 < length <= METADATA_BYTES:
            raise RunError(f"{url}: damaged (no header); {RUN_AGAIN}")
        return read(8, length)


def _header(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file: its length in 8 bytes, then JSON."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if len(data) < 8 + length or not isinstance(header, dict):
        raise ValueError("truncated")
    return header


def _checksums(data: bytes) -> dict[str, list[Any]]:
    """Type, shape and CRC-32C of every tensor of a safetensors file."""
    header, start = _header(data), 8 + int.from_bytes(data[:8], "little")
    view, sums = memoryview(data), {}
    for name, tensor in header.items():
        if name != "__metadata__":
            first, last = (start + offset for offset in tensor["data_offsets"])
            sums[name] = [tensor["dtype"], tensor["shape"], google_crc32c.value(bytes(view[first:last]))]
    return sums
