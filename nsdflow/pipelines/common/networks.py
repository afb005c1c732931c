"""Networks that pipelines name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator

from nsdflow.config.pipeline import LocalFile, PipelineBase
from nsdflow.errors import SelectionError
from nsdflow.models.networks import open_network, record_of

if TYPE_CHECKING:
    from nsdflow.models.networks.network import Network

__all__ = ["BATCH_IMAGES", "NetworkPipeline", "network_of"]

#: Images per call of a network.
BATCH_IMAGES: Final = 50


def _known(name: str) -> str:
    try:
        record_of(name)
    except SelectionError as error:
        raise ValueError(str(error)) from None
    return name


class NetworkPipeline(PipelineBase):
    """Settings of every pipeline that computes features of images."""

    features: Annotated[str, AfterValidator(_known)] = "alexnet"
    """Network, as in :data:`nsdflow.models.networks.NETWORKS`."""
    feature_weights: LocalFile = None
    """File with the network's weights, or ``random``; the published ones if null."""

    def pretrained(self) -> Mapping[str, str]:
        if record_of(self.features).weightless or self.feature_weights == "random":
            return {}
        return {"feature_weights": self.features}


def network_of(config: NetworkPipeline, layers: Sequence[str] | None = None) -> Network:
    """Open the network that a pipeline names, with its weights; all layers by default."""
    from nsdflow.engine.compute import weights_cache  # loads torch, which settings do not need

    return open_network(config.features, config.feature_weights, layers=layers, seed=config.seed, cache=weights_cache())
