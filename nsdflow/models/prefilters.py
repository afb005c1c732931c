"""Table of prefilters: the first two layers of GNet, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PREFILTERS", "PrefilterSource"]


@dataclass(frozen=True)
class PrefilterSource:
    """Source of the weights of a prefilter."""

    load: Callable[[int, str | None, Path], dict[str, Tensor]]
    """Load weights under AlexNet's keys, given the seed of the run, a local file or None, and the download cache."""
    network: str | None = None
    """Network of :mod:`nsdflow.models.networks` whose weights it takes; None if it needs no file."""


def _alexnet(seed: int, file: str | None, cache: Path) -> dict[str, Tensor]:
    from nsdflow.models.networks.alexnet_weights import load_alexnet_weights

    return load_alexnet_weights(file, cache=cache)


def _gabor(seed: int, file: str | None, cache: Path) -> dict[str, Tensor]:
    from nsdflow.models.gabor_prefilter import gabor_prefilter_weights

    return gabor_prefilter_weights(seed)


#: Prefilters by name.
PREFILTERS: Final[Mapping[str, PrefilterSource]] = {
    "alexnet": PrefilterSource(_alexnet, network="alexnet"),
    "gabor": PrefilterSource(_gabor),
}
