"""Networks that pipelines name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final, Protocol

from pydantic import AfterValidator

from nsdflow.errors import SelectionError
from nsdflow.models.networks import open_network, record_of

if TYPE_CHECKING:
    from nsdflow.models.networks.network import Network

__all__ = ["BATCH_IMAGES", "NetworkName", "network_of", "pretrained"]

#: Images per call of a network.
BATCH_IMAGES: Final = 50


def _known(name: str) -> str:
    try:
        record_of(name)
    except SelectionError as error:
        raise ValueError(str(error)) from None
    return name


#: A network of the table. Its name is checked when the pipeline is loaded.
NetworkName = Annotated[str, AfterValidator(_known)]


def pretrained(network: str, weights: str | None) -> Mapping[str, str]:
    """Network with published weights, by the setting that can name a local file of its weights."""
    return {} if record_of(network).weightless or weights == "random" else {"feature_weights": network}


class _NamesNetwork(Protocol):
    """Settings of a pipeline that computes features."""

    @property
    def features(self) -> str: ...

    @property
    def feature_weights(self) -> str | None: ...

    @property
    def seed(self) -> int: ...


def network_of(config: _NamesNetwork, layers: Sequence[str] | None = None) -> Network:
    """Open the network that a pipeline names, with its weights; all layers by default."""
    from nsdflow.engine.compute import weights_cache  # loads torch, which settings do not need

    return open_network(config.features, config.feature_weights, layers=layers, seed=config.seed, cache=weights_cache())
