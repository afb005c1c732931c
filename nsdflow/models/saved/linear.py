"""Linear readouts of features: ridge on the best layer of each voxel, and banded ridge on several spaces at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsdflow.models.networks.reduce import FeatureRows, Projection
from nsdflow.models.networks.travel import unpack_network
from nsdflow.models.saved.parts import Part, below, only_subject

__all__ = ["LinearReadout", "linear_parts"]


class Spaces(nn.Module):
    """Images to rows of features of several networks, named by network and layer."""

    def __init__(self, networks: Sequence[FeatureRows]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> dict[tuple[int, str], Tensor]:
        """Features (image, feature) by number of the network and name of the layer."""
        return {
            (number, layer): rows
            for number, network in enumerate(self.networks)
            for layer, rows in zip(network.layers, network(images), strict=True)  # type: ignore[arg-type]
        }


class LinearReadout(nn.Module):
    """The sum over terms of raw features times weights, each term for some voxels, plus a bias.

    Parameters
    ----------
    terms : sequence of (int, str)
        Network and layer of each term.
    state : mapping of str to Tensor
        ``bias`` (voxel,), and per term n ``n.weights`` (feature, some voxels) and ``n.columns`` (some voxels,).
    """

    def __init__(self, terms: Sequence[tuple[int, str]], state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.terms = list(terms)
        self.bias: Tensor
        self.register_buffer("bias", state["bias"])
        for number in range(len(terms)):
            self.register_buffer(f"weights_{number}", state[f"{number}.weights"])
            self.register_buffer(f"columns_{number}", state[f"{number}.columns"])

    def forward(self, rows: Mapping[tuple[int, str], Tensor]) -> Tensor:
        """Predictions (image, voxel)."""
        device = self.bias.device
        images = len(next(iter(rows.values())))
        predicted = self.bias.repeat(images, 1)
        for number, term in enumerate(self.terms):
            weights, columns = self.get_buffer(f"weights_{number}"), self.get_buffer(f"columns_{number}")
            predicted[:, columns] += rows[term].to(device) @ weights
        return predicted


def linear_parts(
    file: Path, about: Mapping[str, Any], state: Mapping[str, Tensor], subject: str | None
) -> tuple[str, list[Part]]:
    """The model of one subject of a run of kind ``ridge`` or ``banded_ridge``."""
    subject = only_subject(file, subject, about["subjects"])
    networks = []
    for number, said in enumerate(about["networks"]):
        own = below(state, f"network.{number}")
        fitted = None
        if said["rows"]["projection"].startswith("pca"):
            pca = below(state, f"projection.{number}")
            fitted = [Projection(pca[f"matrix.{n}"], pca[f"mean.{n}"]) for n in range(len(said["network"]["layers"]))]
        networks.append(FeatureRows(unpack_network(said["network"], own), fitted=fitted, **said["rows"]))
    terms = [(int(number), str(layer)) for number, layer in about["terms"]]
    readout = LinearReadout(terms, below(state, subject))
    return subject, [Part("linear", Spaces(networks), readout, torch.arange(len(readout.bias)))]
