"""How pipelines name networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from nsdflow.errors import SelectionError
from nsdflow.models.networks import record_of

__all__ = ["NetworkName", "pretrained"]


def _known(name: str) -> str:
    try:
        record_of(name)
    except SelectionError as error:
        raise ValueError(str(error)) from None
    return name


#: A network of the table, checked when the pipeline is loaded.
NetworkName = Annotated[str, AfterValidator(_known)]


def pretrained(network: str, weights: str | None) -> Mapping[str, str]:
    """The network by the setting that may name a file of its weights, where published weights are read."""
    return {} if record_of(network).weightless or weights == "random" else {"feature_weights": network}
