"""Networks of saved models are built from their description, by the function of their record."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nsdflow.models.networks import NETWORKS, NetworkRecord, open_network, sketch_network
from nsdflow.models.networks.network import Network
from nsdflow.models.networks.travel import pack_network, unpack_network


def build(name: str, config: Any, preprocessing: Any) -> Network:
    module = nn.Conv2d(3, config["channels"], 5)
    return Network(name, module, ["conv"], run, config=config, version="1")


def run(module: nn.Module, images: Tensor) -> list[Tensor]:
    return [module(images.float())]


def open_sized(name: str, weights: str | None, seed: int, layers: Any) -> Network:
    """The number of channels is in a file somewhere, say; the name alone does not tell it."""
    torch.manual_seed(seed)
    return build(name, {"channels": 7}, None).only(layers)


def open_smaller(name: str, weights: str | None, seed: int, layers: Any) -> Network:
    return build(name, {"channels": 2}, None).only(layers)


def test_a_family_with_a_configuration_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    record = NetworkRecord("sized:", f"{__name__}:open_sized", rebuild_at=f"{__name__}:build")
    monkeypatch.setitem(NETWORKS, "sized:", record)  # type: ignore[misc]
    network = open_network("sized:a", seed=3)
    about, state = pack_network(network)
    monkeypatch.setitem(  # another machine, where opening gives another size
        NETWORKS, "sized:", NetworkRecord("sized:", f"{__name__}:open_smaller", rebuild_at=f"{__name__}:build")
    )  # type: ignore[misc]
    assert sketch_network("sized:a").shapes(16) == {"conv": (2, 12, 12)}
    again = unpack_network(json.loads(json.dumps(about)), state)
    images = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    assert torch.equal(again(images)[0], network(images)[0])


def test_a_configuration_that_nobody_rebuilds_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "sized:", NetworkRecord("sized:", f"{__name__}:open_sized"))  # type: ignore[misc]
    about, state = pack_network(open_network("sized:a", seed=3))
    assert about["config"] == {"channels": 7}
    assert unpack_network(about, state).shapes(9) == {"conv": (7, 5, 5)}
