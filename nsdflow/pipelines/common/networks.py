"""Names of networks in pipelines."""

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


#: A network of the table. Its name is checked when the pipeline is loaded.
NetworkName = Annotated[str, AfterValidator(_known)]


def pretrained(network: str, weights: str | None) -> Mapping[str, str]:
    """Network with published weights, by the setting that can name a local file of its weights."""
    return {} if record_of(network).weightless or weights == "random" else {"feature_weights": network}
