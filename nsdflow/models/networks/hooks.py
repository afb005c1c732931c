"""Any torch module as a network, with the outputs of some of its parts by forward hooks; and custom networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsdflow.errors import MissingDataError, SourceError, one_of
from nsdflow.io.tensors import load_tensors
from nsdflow.models.networks.network import IMAGENET, Network, Preprocessing, seeded
from nsdflow.models.torch_files import read_torch_file

__all__ = ["default_layers", "hooked", "load_weights", "open_own"]


def hooked(
    name: str, module: nn.Module, layers: Sequence[str] | None, preprocessing: Preprocessing, **about: Any
) -> Network:
    """Build a network whose layers are modules by their dotted names; :func:`default_layers` if None.

    Raises
    ------
    SelectionError
        The module has no such part.
    """
    chosen = list(layers or default_layers(module))
    parts = dict(module.named_modules())
    for layer in chosen:
        if layer not in parts or not layer:
            raise one_of(f"layer of {name}", layer, [part for part in parts if part])

    def run(module: nn.Module, images: Tensor) -> list[Tensor]:
        found: dict[str, Tensor] = {}

        def keep(layer: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                found[layer] = output if isinstance(output, Tensor) else next(iter(_tensors(output)))

            return hook

        handles = [module.get_submodule(layer).register_forward_hook(keep(layer)) for layer in chosen]
        try:
            module(preprocessing(images))
        finally:
            for handle in handles:
                handle.remove()
        return [found[layer] for layer in chosen]

    return Network(name, module, chosen, run, preprocessing=preprocessing, **about)


def _tensors(output: Any) -> list[Tensor]:
    """Tensors of a tuple or mapping of outputs."""
    values = output.values() if hasattr(output, "values") else output
    return [value for value in values if isinstance(value, Tensor)]


def default_layers(module: nn.Module) -> list[str]:
    """Top-level modules that have parameters; a sequence of blocks is replaced by its blocks."""
    names = []
    for name, child in module.named_children():
        blocks = isinstance(child, nn.Sequential | nn.ModuleList)
        names += [f"{name}.{part}" for part, _ in child.named_children()] if blocks else [name]
    return [name for name in names if any(True for _ in module.get_submodule(name).parameters())] or names


def load_weights(module: nn.Module, weights: str | None) -> None:
    """Load a state dict from a ``.pth`` or ``.safetensors`` file; None and ``random`` name none.

    Raises
    ------
    SourceError
        Names or shapes differ from those of the module.
    """
    if weights is None or weights == "random":
        return
    if weights.endswith(".safetensors"):
        state = load_tensors(weights, "fetch it again")
    else:
        state = read_torch_file(Path(weights))
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        first = str(error).splitlines()[-1].strip()
        raise SourceError(f"{weights}: not the weights of this network ({first}); give its own state dict") from None


def open_own(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """Open a custom network: ``package.module:function`` returns an ``nn.Module``.

    The module can have the attributes ``layers`` (dotted names) and ``preprocessing`` (:class:`Preprocessing`).

    Raises
    ------
    MissingDataError
        There is no such module or function.
    """
    path, _, function = name.partition(":")
    try:
        build = getattr(import_module(path), function)
    except (ImportError, AttributeError) as error:
        raise MissingDataError(f"network {name!r}: {error}; write package.module:function") from None
    with seeded(seed):
        module = build()
    if not isinstance(module, nn.Module):
        raise SourceError(f"network {name!r} returned {type(module).__name__}; return a torch.nn.Module")
    load_weights(module, weights)
    preprocessing = getattr(module, "preprocessing", IMAGENET)
    own_layers = layers or getattr(module, "layers", None)
    own_layers = own_layers if isinstance(own_layers, list | tuple) else None
    version = f"torch {torch.__version__}, code {_code_hash(path)}"
    return hooked(name, module, own_layers, preprocessing, weights=weights or "its own", version=version)


def _code_hash(module: str) -> str:
    """First digits of the SHA-256 of a module's file. Other code is another network, even with the same weights."""
    file = getattr(import_module(module), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else "unknown"
