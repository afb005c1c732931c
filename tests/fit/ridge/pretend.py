"""A pretended GPU: tensors that say they are on another device, compute on the CPU, and refuse to be mixed with its.

Operations on tensors of two devices fail on a machine with a GPU only. Here every tensor "on" torch's ``meta`` device
holds a tensor of the CPU, so that code for any device is tested on any machine, with its values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["PRETENDED", "pretended_gpu"]

PRETENDED = torch.device("meta")
#: Operations that copy between devices.
COPIES = ("aten::_to_copy", "aten::copy_")


class OnDevice(torch.Tensor):
    """A CPU tensor that claims to be on another device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=PRETENDED,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(function, args, kwargs or {})


def dispatch(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    here = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
    there = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    name = function.name().partition(".")[0]
    if there and any(tensor.ndim for tensor in here) and name not in COPIES:
        raise RuntimeError(f"{name} got tensors on the CPU and on the pretended device")
    wanted = kwargs.get("device")
    target = bool(there) if wanted is None else torch.device(wanted) == PRETENDED
    inner = kwargs if wanted is None else kwargs | {"device": torch.device("cpu")}
    values = function(*tree_map(unwrapped, args), **tree_map(unwrapped, inner))
    if name == "aten::copy_":
        return args[0]
    if name.endswith("_") and not name.endswith("__"):
        return args[0]
    return tree_map(wrapped, values) if target else values


def unwrapped(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def wrapped(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, torch.Tensor) and not isinstance(value, OnDevice) else value


class _Factories(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(function, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """A device whose tensors refuse those of the CPU."""
    with _Factories():
        yield PRETENDED
