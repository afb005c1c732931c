"""AlexNet for machines without network, and labels of all results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from nsdflow.runs import results


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


@pytest.fixture(scope="module", autouse=True)
def labelled_results() -> Iterator[None]:
    """Every variable that a pipeline publishes here has a long name and a unit."""
    write = results._write_tree

    def checked(place: Any, tree: xr.DataTree) -> None:
        bare = [
            f"{node.path}/{name}"
            for node in tree.subtree
            for name, variable in node.dataset.data_vars.items()
            if not {"long_name", "units"} <= variable.attrs.keys() and "flag_values" not in variable.attrs
        ]
        assert not bare, f"results without long_name or units; add them to nsdflow.labels: {bare}"
        write(place, tree)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_write_tree", checked)
        yield
