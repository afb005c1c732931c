"""The arithmetic of a training, as an explicit choice that is undone afterwards.

``float32``: IEEE single precision throughout. ``tf32``: float32 with products in TensorFloat-32 on GPUs that have it,
as the published run had by torch's defaults of its time. ``bfloat16``: the encoder's convolutions in bfloat16 by
autocast, the readout as under ``tf32``. ``auto``: ``tf32`` on a GPU, ``float32`` elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

__all__ = ["Precision", "arithmetic", "encoder_arithmetic", "resolve_precision"]

Precision = Literal["auto", "float32", "tf32", "bfloat16"]


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """What ``auto`` means on this device."""
    if precision != "auto":
        return precision
    return "tf32" if device.type == "cuda" else "float32"


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """TF32 on or off for matrix products and convolutions on a GPU while the block runs; nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    tf32 = resolve_precision(precision, device) != "float32"
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = tf32
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def encoder_arithmetic(precision: Precision, device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 for the encoder, where that was asked for."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
