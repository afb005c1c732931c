"""Independent random streams, identified by name.

A stream depends only on the seed of the run and on names that state its purpose, such as ``("gnet", "V1", "dropout",
"subj03", 7)``. Adding a subject, an ROI group or an epoch therefore changes no other draw.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch

__all__ = ["numpy_stream", "seed_of", "torch_stream"]


def _sequence(seed: int, names: tuple[str | int, ...]) -> np.random.SeedSequence:
    digest = hashlib.blake2b(json.dumps(names).encode(), digest_size=16).digest()
    return np.random.SeedSequence(seed, spawn_key=np.frombuffer(digest, "<u4").tolist())


def seed_of(seed: int, *names: str | int) -> int:
    """Derive the seed of a stream, an integer from 0 to 2^63 - 1.

    Parameters
    ----------
    *names : str or int
        Names that state the purpose of the stream.

    Examples
    --------
    >>> seed_of(0, "gnet", "V1", "trunk") == seed_of(0, "gnet", "V2", "trunk")
    False
    """
    return int(_sequence(seed, names).generate_state(1, np.uint64)[0] >> 1)


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Create a numpy generator for one purpose. The arguments are those of :func:`seed_of`."""
    return np.random.default_rng(_sequence(seed, names))


def torch_stream(seed: int, *names: str | int) -> torch.Generator:
    """Create a torch generator on the CPU for one purpose. The arguments are those of :func:`seed_of`."""
    return torch.Generator().manual_seed(seed_of(seed, *names))
