"""Networks that turn images into feature maps; :mod:`~nsdflow.models.networks.table` lists them."""

from nsdflow.models.networks.table import (
    NETWORKS,
    NetworkRecord,
    describe_network,
    open_network,
    record_of,
    sketch_network,
)

__all__ = ["NETWORKS", "NetworkRecord", "describe_network", "open_network", "record_of", "sketch_network"]
