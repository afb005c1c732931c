"""Readouts on a frozen network: feature-weighted receptive fields (fwRF) and flexible pooling fields (fpf)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsdflow.models.gnet import FrozenEncoder
from nsdflow.models.networks.levels import ChannelSelection
from nsdflow.models.networks.network import Network
from nsdflow.models.networks.travel import unpack_network
from nsdflow.models.pooling import pooling_weights
from nsdflow.models.saved.gnet import load_readouts
from nsdflow.models.saved.parts import Part, below, only_subject

__all__ = ["FieldReadout", "fpf_parts", "fwrf_parts"]


class FieldReadout(nn.Module):
    """Pooled features of each voxel's Gaussian field, standardised and weighted.

    With the field g of voxel v, the maps M of all levels and the nonlinearity f,
    ``prediction = bias + sum_k weights[v, k] (f(sum_yx g M_k) - feature_mean[v, k]) / feature_std[v, k]``.

    Parameters
    ----------
    state : mapping of str to Tensor
        ``rf`` (voxel, 3) x, y and sigma; ``weights``, ``feature_mean``, ``feature_std`` (voxel, feature); ``bias``
        (voxel,).
    nonlinearity : str
        ``none``, or ``log`` for log(1 + abs(x)).
    """

    def __init__(self, state: Mapping[str, Tensor], nonlinearity: str) -> None:
        super().__init__()
        self.nonlinearity = nonlinearity
        fields, self.field_of_voxel = state["rf"].unique(dim=0, return_inverse=True)
        self.fields: Tensor
        self.weights: Tensor
        self.bias: Tensor
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("fields", fields)
        for name in ("weights", "bias", "feature_mean", "feature_std"):
            self.register_buffer(name, state[name])

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Predictions (image, voxel) of maps (image, channel, y, x), one tensor per level."""
        predicted = levels[0].new_empty(len(levels[0]), len(self.bias))
        for number, field in enumerate(self.fields):
            pooled = []
            for level in levels:
                g = pooling_weights(field[None], level.shape[-1]).flatten().to(level)
                pooled.append(level.flatten(2) @ g)
            values = torch.cat(pooled, dim=1)  # (image, feature)
            values = torch.log1p(values.abs()) if self.nonlinearity == "log" else values
            voxels = (self.field_of_voxel == number).nonzero()[:, 0].to(values.device)
            # all voxels of a field share its mean and deviation
            values = (values - self.feature_mean[voxels[0]]) / self.feature_std[voxels[0]]
            predicted[:, voxels] = torch.addmm(self.bias[voxels], values, self.weights[voxels].T)
        return predicted


class SelectedChannels(nn.Module):
    """The selected channels of a network's layers, joined to levels."""

    def __init__(self, network: Network, channels: ChannelSelection) -> None:
        super().__init__()
        self.network, self.channels = network, channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Levels (image, channel, y, x)."""
        return self.channels.of(self.network(images))


def fwrf_parts(
    file: Path, about: Mapping[str, Any], state: Mapping[str, Tensor], subject: str | None
) -> tuple[str, list[Part]]:
    """The model of one subject of a run of kind ``fwrf``."""
    subject = only_subject(file, subject, about["subjects"])
    own, network = below(state, subject), unpack_network(about["network"], below(state, "network"))
    encoder = SelectedChannels(network, ChannelSelection(own["layer"].numpy(), own["channel"].numpy()))
    return subject, [Part("fields", encoder, FieldReadout(own, about["nonlinearity"]))]


def fpf_parts(
    file: Path, about: Mapping[str, Any], state: Mapping[str, Tensor], subject: str | None
) -> tuple[str, list[Part]]:
    """The model of one subject of a run of kind ``fpf``."""
    readouts = load_readouts(state)
    subject = only_subject(file, subject, sorted(readouts))
    channels = [state[name] for name in sorted(state) if name.startswith("channels.")]
    encoder = FrozenEncoder(unpack_network(about["network"], below(state, "network")), channels)
    return subject, [Part("fields", encoder, readouts[subject])]
