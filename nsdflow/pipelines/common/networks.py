"""Networks that pipelines name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator

from nsdflow.config.pipeline import LocalFile, PipelineBase
from nsdflow.errors import RunError, SelectionError
from nsdflow.models.networks import open_network, record_of

if TYPE_CHECKING:
    from nsdflow.models.networks.network import Network
    from nsdflow.runs.folder import RunFolder

__all__ = ["BATCH_IMAGES", "NetworkPipeline", "check_network", "is_network_of", "keep_network", "network_of"]

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


def is_network_of(run: RunFolder, network: Network) -> bool:
    """Whether a run recorded this network: its weights, its code or its library may have changed."""
    return bool(run.record().get("network") == json.loads(json.dumps(network.identity())))


def keep_network(run: RunFolder, network: Network) -> None:
    """Record the network with which a run begins, before anything is computed with it.

    Raises
    ------
    RunError
        The run has begun with another network, or with the same of other weights, code or version of its library.
    """
    if not run.exists("run.yaml"):
        return
    if (said := run.record().get("network")) is None:
        run.add_to_record(network=network.identity())
    elif not is_network_of(run, network):
        now = network.identity()
        changed = [
            key for key in now if not isinstance(said, dict) or json.loads(json.dumps(now[key])) != said.get(key)
        ]
        raise RunError(
            f"{run.path} began with another network {network.name} (other {', '.join(changed)}); "
            "choose another name with --set name=..., or delete the folder"
        )


def check_network(run: RunFolder, config: NetworkPipeline, layers: Sequence[str] | None = None) -> None:
    """Check that an unfinished run continues with the network with which it began, as :func:`keep_network`."""
    if not run.finished and run.exists("run.yaml") and run.record().get("network") is not None:
        keep_network(run, network_of(config, layers))
