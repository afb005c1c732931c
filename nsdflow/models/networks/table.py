"""Networks that turn images into feature maps: one table of records that all pipelines with features use.

A network is named as in a pipeline file: ``alexnet``, ``gabor``, ``gabor_low``, ``transformers:NAME``, ``timm:NAME``,
``torchvision:NAME``, ``open_clip:NAME``, or ``package.module:function`` for a custom network. To add a family, write a
function that opens it, and add its line to :data:`NETWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nsdflow.errors import one_of

if TYPE_CHECKING:
    from nsdflow.models.networks.network import Network

__all__ = ["NETWORKS", "NetworkRecord", "describe_network", "open_network", "record_of", "sketch_network"]


@dataclass(frozen=True)
class NetworkRecord:
    """A network, or a family of them."""

    name: str
    """``alexnet``, or ``transformers:`` for a family whose members are named after the colon."""
    open_at: str
    """``module:function`` that takes name, weights, seed, layers (and cache, with ``published``) and returns a
    :class:`~nsdflow.models.networks.network.Network`. It is also called with random weights under
    ``torch.device("meta")``, to know the shapes of the layers: it must not read values of tensors then."""
    rebuild_at: str | None = None
    """``module:function`` that builds the network of a saved model from name, ``Network.config`` and preprocessing;
    None where the name alone determines the shapes of the weights."""
    published: str | None = None
    """URL of the published weights. The function then takes ``cache``, a folder that holds the file or receives it,
    and fetches and checks the file itself."""
    layers: tuple[str, ...] | None = None
    """Names of the layers, where they are known without building the network."""
    memory: int = 2 << 30
    """Bytes per task for the network and the maps of a batch of images."""
    weightless: bool = False
    """Whether the network is computed from constants and has no weights."""

    @property
    def open(self) -> Callable[..., Network]:
        """Function that opens the network."""
        return _function(self.open_at)

    @property
    def rebuild(self) -> Callable[..., Network] | None:
        """Function that builds the network of a saved model."""
        return None if self.rebuild_at is None else _function(self.rebuild_at)


_HERE: Final = "nsdflow.models.networks"

NETWORKS: Final[Mapping[str, NetworkRecord]] = {
    record.name: record
    for record in (
        NetworkRecord(
            "alexnet",
            f"{_HERE}.alexnet:open_alexnet",
            published="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            layers=("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"),
            memory=1 << 30,
        ),
        NetworkRecord("gabor", f"{_HERE}.gabor:open_gabor", weightless=True),
        NetworkRecord("gabor_low", f"{_HERE}.gabor:open_gabor_low", weightless=True),
        NetworkRecord(
            "transformers:",
            f"{_HERE}.libraries:open_transformers",
            rebuild_at=f"{_HERE}.libraries:rebuild_transformers",
        ),
        NetworkRecord("timm:", f"{_HERE}.libraries:open_timm"),
        NetworkRecord("torchvision:", f"{_HERE}.libraries:open_torchvision"),
        NetworkRecord("open_clip:", f"{_HERE}.libraries:open_open_clip"),
    )
}

#: Custom networks, ``package.module:function``.
OWN: Final = NetworkRecord("package.module:function", f"{_HERE}.hooks:open_own")


def record_of(name: str) -> NetworkRecord:
    """Return the record of a network.

    Raises
    ------
    SelectionError
        No network or family has that name.
    """
    family, colon, member = name.partition(":")
    if family + colon in NETWORKS and bool(colon) == bool(member):
        return NETWORKS[family + colon]
    if colon and member.isidentifier():
        return OWN
    raise one_of("network", name, [*NETWORKS, OWN.name])


def open_network(
    name: str,
    weights: str | None = None,
    *,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
) -> Network:
    """Build a network with its weights, on the CPU, frozen.

    Parameters
    ----------
    name : str
        Name, as in a pipeline file.
    weights : str, optional
        A local file, or ``random`` (drawn with ``seed``); the published weights if None.
    layers : sequence of str, optional
        Layers to return; all if None.
    seed : int
        Seed of random weights.
    cache : path, optional
        Folder for the published files that nsdflow fetches itself.

    Returns
    -------
    Network
        The network, in evaluation mode.

    Raises
    ------
    SelectionError
        There is no such network or layer.
    MissingDataError
        The library or the weights are not on this machine.

    Examples
    --------
    >>> from nsdflow.models.networks import open_network
    >>> network = open_network("gabor")
    >>> len(network.layers)
    12
    """
    record = record_of(name)
    extra: dict[str, Any] = {"cache": cache} if record.published else {}
    return record.open(name, weights, seed, layers, **extra)


def sketch_network(name: str, *, layers: Sequence[str] | None = None) -> Network:
    """Build a network without values (torch's ``meta`` device). At most a configuration is downloaded."""
    import torch

    with torch.device("meta"):
        return open_network(name, "random", layers=layers)


def describe_network(name: str, weights: str | None = "random", *, image_size: int = 227) -> str:
    """Describe layers with shapes, preprocessing and bytes per image, as text for a terminal.

    Raises
    ------
    SelectionError
        There is no such network.
    MissingDataError
        Its library or configuration is not on this machine.
    """
    network = sketch_network(name) if weights == "random" else open_network(name, weights)
    shapes = network.shapes(image_size)
    width = max(len(layer) for layer in shapes)
    how = network.preprocessing
    lines = [f"{name}: {len(shapes)} layers, {network.version}".rstrip(", ")]
    if how is None or how.size is None:
        lines.append(f"  images of {image_size} pixels as they are, standardised inside the network")
    else:
        crop = f", cropped to {how.crop}" if how.crop else ""
        resized = f"  images resized to {how.size} pixels ({how.interpolation}, antialiased){crop}"
        lines.append(f"{resized}, mean {how.mean}, std {how.std}")
    lines += [
        f"  {layer.ljust(width)}  {' x '.join(map(str, shape)):>16}  {4 * prod(shape):>12,} bytes per image"
        for layer, shape in shapes.items()
    ]
    total = 4 * sum(prod(shape) for shape in shapes.values())
    return "\n".join([*lines, f"  {'all'.ljust(width)}  {'':>16}  {total:>12,} bytes per image (float32)"])


def _function(place: str) -> Callable[..., Network]:
    module, _, name = place.partition(":")
    function: Callable[..., Network] = getattr(import_module(module), name)
    return function
