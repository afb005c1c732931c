"""AlexNet for machines without network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES


@pytest.fixture(scope="session")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights drawn at random, in the file format of the published ones."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in ALEXNET_SHAPES.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / int(np.prod(shape[1:]))) ** 0.5
        state[f"{name}.bias"] = torch.zeros(shape[0])
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(state, path)
    return path
