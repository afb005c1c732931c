"""From the output of a layer to a row of features: reductions over space or tokens, and projections."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nsdflow.models.networks.network import Network

__all__ = ["FeatureRows", "Projection", "feature_count", "fit_pca", "make_projection", "reduce_output", "sparse_random"]


def _grid(maps: Tensor, cells: int) -> Tensor:
    return functional.adaptive_avg_pool2d(maps, cells)


#: Reductions of maps (image, channel, y, x).
SPATIAL: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "keep": lambda maps: maps,
    "mean": lambda maps: maps.mean((2, 3)),
    "max": lambda maps: maps.amax((2, 3)),
}
#: Reductions of tokens (image, token, channel).
TOKENS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "keep": lambda tokens: tokens,
    "mean": lambda tokens: tokens.mean(1),
    "cls": lambda tokens: tokens[:, 0],
}


def reduce_output(output: Tensor, spatial: str, tokens: str) -> Tensor:
    """Features (image, feature) float32 of a layer's output: maps, tokens or vectors."""
    if output.ndim == 4:
        grid = re.fullmatch(r"grid\((\d+)\)", spatial)
        output = _grid(output, int(grid[1])) if grid else SPATIAL[spatial](output)
    elif output.ndim == 3:
        output = TOKENS[tokens](output)
    return output.flatten(1).float()


def feature_count(shape: tuple[int, ...], spatial: str, tokens: str) -> int:
    """Number of features of :func:`reduce_output` for an output of that shape, without the image axis."""
    return int(reduce_output(torch.zeros(1, *shape, device="meta"), spatial, tokens).shape[1])


@dataclass(frozen=True)
class Projection:
    """Features times a matrix, after subtraction of a mean."""

    matrix: Tensor
    """(feature, component), dense or sparse."""
    mean: Tensor | None = None
    """(feature,)"""

    def __call__(self, features: Tensor) -> Tensor:
        """(image, feature) -> (image, component)."""
        centred = features if self.mean is None else features - self.mean
        return (self.matrix.T @ centred.T).T if self.matrix.is_sparse else centred @ self.matrix


def sparse_random(features: int, components: int, seed: int) -> Projection:
    """Very sparse random projection (Li, Hastie and Church, 2006): one entry in s = sqrt(features) is not 0.

    The entries are +-sqrt(s / components), which keeps distances on average.
    """
    rng = np.random.default_rng(seed)
    s = math.sqrt(features)
    counts = rng.binomial(features, 1 / s, size=components)
    rows = np.concatenate([rng.choice(features, count, replace=False) for count in counts])
    columns = np.repeat(np.arange(components), counts)
    values = rng.choice([-1.0, 1.0], len(rows)) * math.sqrt(s / components)
    indices = torch.from_numpy(np.stack([rows, columns]))
    size = (features, components)
    return Projection(torch.sparse_coo_tensor(indices, torch.from_numpy(values).float(), size, check_invariants=True))


def fit_pca(features: Tensor, components: int) -> Projection:
    """Principal components (feature, component) of features (image, feature), from their Gram matrix.

    The sign of a component makes its largest entry positive.
    """
    mean = features.mean(0)
    X = features - mean
    E, U = torch.linalg.eigh((X @ X.T).double())  # ascending
    kept = min(components, int((E[-1] * 1e-7 < E).sum()))
    U, S = U[:, -kept:].flip(1), E[-kept:].flip(0).sqrt()
    V = X.T @ (U / S).float()  # (feature, component)
    signs = V.gather(0, V.abs().argmax(0, keepdim=True)).sign()
    if kept < components:
        V = functional.pad(V * signs, (0, components - kept))
        return Projection(V, mean)
    return Projection(V * signs, mean)


def make_projection(text: str, features: int, seed: int, fitted: Projection | None) -> tuple[int, Projection | None]:
    """Number of components of a projection named in the settings, and the projection; a PCA must be fitted already."""
    if text == "none":
        return features, None
    name, numbers = text.rstrip(")").split("(")
    components, *own = (int(number) for number in numbers.split(","))
    if name == "pca":
        return components, fitted
    return components, sparse_random(features, components, own[0] if own else seed)


class FeatureRows(nn.Module):
    """Images to rows of features: the layers of a network, reduced over space or tokens, and projected.

    Parameters
    ----------
    network : Network
        Network with the layers of the features.
    spatial, tokens, projection : str
        As in a pipeline of kind ``features``.
    seed : int
        Seed of that pipeline, for random projections.
    fitted : sequence of Projection, optional
        Fitted projection of each layer, for a PCA; ``none`` as projection leaves all projections out.
    rounded : bool
        Round features to float16, as a run with ``dtype: float16`` does.
    """

    def __init__(
        self,
        network: Network,
        *,
        spatial: str = "keep",
        tokens: str = "keep",
        projection: str = "none",
        seed: int = 0,
        fitted: Sequence[Projection] | None = None,
        rounded: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.spatial, self.tokens = network, spatial, tokens
        self.projection, self.seed, self.fitted, self.rounded = projection, seed, fitted, rounded
        self._projections: list[Projection | None] | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return self.network.layers

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (image, feature) float32 on the CPU, one tensor per layer, of images (image, 3, y, x)."""
        values = [reduce_output(output, self.spatial, self.tokens).cpu() for output in self.network.outputs(images)]
        if self._projections is None:
            fitted: Sequence[Projection | None] = self.fitted or [None] * len(values)
            self._projections = [
                make_projection(self.projection, one.shape[1], self.seed + number, fitted[number])[1]
                for number, one in enumerate(values)
            ]
        rows = [
            one if projection is None else projection(one)
            for one, projection in zip(values, self._projections, strict=True)
        ]
        return [one.half().float() for one in rows] if self.rounded else rows
