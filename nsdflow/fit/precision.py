"""Arithmetic precision of a training, set explicitly and restored afterwards.

- ``float32``: IEEE single precision throughout.
- ``tf32``: float32, with products in TensorFloat-32 on GPUs that support it. The published run used this precision,
  which was the default of torch at the time.
- ``bfloat16``: autocast runs the encoder's convolutions in bfloat16. The readout runs as under ``tf32``.
- ``auto``: ``tf32`` on a GPU, ``float32`` elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

__all__ = ["Precision", "arithmetic", "encoder_arithmetic", "resolve_precision"]

Precision = Literal["auto", "float32", "tf32", "bfloat16"]


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Resolve ``auto`` to the precision for this device."""
    if precision != "auto":
        return precision
    return "tf32" if device.type == "cuda" else "float32"


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Set TF32 for matrix products and convolutions on a GPU within the block; do nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    tf32 = precision != "float32"
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = tf32
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def encoder_arithmetic(precision: Precision, device: torch.device) -> torch.autocast:
    """Return an autocast context for the encoder, enabled only if ``precision`` is ``bfloat16``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
