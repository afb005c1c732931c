"""Networks inside saved models: a description as JSON values, and the tensors of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from nsdflow.errors import RunError
from nsdflow.models.networks.alexnet import alexnet_of
from nsdflow.models.networks.alexnet_weights import ALEXNET_SHAPES
from nsdflow.models.networks.network import Network
from nsdflow.models.networks.table import open_network, record_of

__all__ = ["pack_network", "unpack_network"]


def pack_network(network: Network) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describe a network, and collect the tensors of its weights.

    Tensors that none of its layers needs are left out: the fully connected layers of AlexNet, where only convolutions
    are read.

    Returns
    -------
    about : dict
        Name, layers, version, and what else :func:`unpack_network` needs; JSON values.
    state : dict of str to Tensor
        Weights and buffers by name.
    """
    about = {
        "name": network.name,
        "layers": list(network.layers),
        "version": network.version,
        "preprocessing": asdict(network.preprocessing) if network.preprocessing else None,
        "config": network.config,
    }
    state = dict(network.module.state_dict())
    if network.name == "alexnet" and all(layer.startswith("conv") for layer in network.layers):
        state = {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}
    return about, state


def unpack_network(about: Mapping[str, Any], state: Mapping[str, Tensor]) -> Network:
    """Build a network from :func:`pack_network`'s description and tensors; nothing is downloaded.

    Raises
    ------
    RunError
        The tensors are not those of the network.
    MissingDataError
        The library of the network is not on this machine.
    """
    if about["name"] == "alexnet":
        return _alexnet(state).only(about["layers"])
    rebuild = record_of(about["name"]).rebuild
    if rebuild is not None and about["config"] is not None:
        network = rebuild(about["name"], about["config"], about["preprocessing"]).only(about["layers"])
    else:
        network = open_network(about["name"], "random", layers=about["layers"])
    try:
        network.module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise RunError(f"the weights in the file are not those of {about['name']} ({str(error)[:120]})") from None
    return network


def _alexnet(state: Mapping[str, Tensor]) -> Network:
    """AlexNet; the layers whose weights were left out are zero, and take no memory."""
    absent = {}
    for name, shape in ALEXNET_SHAPES.items():
        for key, size in ((f"{name}.weight", shape), (f"{name}.bias", shape[:1])):
            if key not in state:
                absent[key] = torch.zeros(()).expand(size)
    return alexnet_of({**state, **absent}, "of a saved model")
