"""Networks of other libraries: transformers, timm, torchvision and open_clip (the extra ``networks``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsdflow.errors import MissingDataError, one_of
from nsdflow.models.networks.hooks import hooked, load_weights
from nsdflow.models.networks.network import Network, Preprocessing, seeded

__all__ = ["open_open_clip", "open_timm", "open_torchvision", "open_transformers", "rebuild_transformers"]

#: Resampling filters of Pillow, as preprocessor files number them.
PILLOW = {2: "bilinear", 3: "bicubic"}


def library(name: str) -> Any:
    """Import a library of the extra ``networks``.

    Raises
    ------
    MissingDataError
        The library is not installed, or cannot be loaded.
    """
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingDataError(f"{name} cannot be imported ({reason}); pip install 'nsdflow[networks]'") from None


def open_transformers(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """An image model of transformers: a name of its hub, a folder with ``config.json``, or a type such as ``dinov2``.

    The layers are ``layer0`` (embeddings) to the last hidden state, and ``pooled`` where the model has it. A type has
    no published weights and requires ``weights: random``.

    Raises
    ------
    MissingDataError
        The configuration or the weights are not on this machine and cannot be fetched.
    """
    transformers = library("transformers")
    source = name.partition(":")[2]
    config = _configuration(transformers, source, weights)
    vision = getattr(config, "vision_config", config)
    if weights is None:
        module = _offline(lambda: transformers.AutoModel.from_pretrained(source, config=vision), name)
    else:
        with seeded(seed):
            module = transformers.AutoModel.from_config(vision)
        load_weights(module, weights)
    preprocessing = _preprocessing(transformers, source, vision, weights)
    return _transformers_network(name, module, vision, preprocessing, weights or source).only(layers)


def rebuild_transformers(name: str, config: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> Network:
    """Build the network of a saved model from its configuration and preprocessing, with any weights."""
    transformers = library("transformers")
    vision = transformers.AutoConfig.for_model(**config)
    module = transformers.AutoModel.from_config(vision)
    return _transformers_network(name, module, vision, Preprocessing(**preprocessing), "of a saved model")


def _transformers_network(
    name: str, module: nn.Module, config: Any, preprocessing: Preprocessing, weights: str
) -> Network:
    transformers = library("transformers")

    def run(module: nn.Module, images: Tensor) -> list[Tensor]:
        output = module(pixel_values=preprocessing(images), output_hidden_states=True)
        pooled = getattr(output, "pooler_output", None)
        return [*output.hidden_states, *([pooled.flatten(1)] if pooled is not None else [])]

    return Network(
        name,
        module,
        _layer_names(config, run, preprocessing, transformers),
        run,
        preprocessing=preprocessing,
        weights=weights,
        version=f"transformers {transformers.__version__}",
        config=json.loads(config.to_json_string(use_diff=False)),
    )


def _configuration(transformers: Any, source: str, weights: str | None) -> Any:
    """Configuration of a folder, a name of the hub, or a type."""
    if source in transformers.CONFIG_MAPPING and not Path(source).is_dir():
        if weights is None:
            raise MissingDataError(
                f"transformers:{source} is a type of model without weights; set weights: random, or name a model "
                "such as transformers:facebook/dinov2-small"
            )
        return transformers.CONFIG_MAPPING[source]()
    local = weights == "random"  # a network with random weights needs no download
    return _offline(
        lambda: transformers.AutoConfig.from_pretrained(source, local_files_only=local), f"transformers:{source}"
    )


def _offline(fetch: Any, name: str) -> Any:
    """Call a library's download, and reduce its error to one line."""
    try:
        return fetch()
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingDataError(
            f"{name}: neither on this machine nor to be fetched ({str(error).splitlines()[0][:120]}); download it "
            "where there is a network and give its folder, or take random weights of a type (transformers:dinov2)"
        ) from None


def _preprocessing(transformers: Any, source: str, config: Any, weights: str | None) -> Preprocessing:
    """Preprocessing of ``preprocessor_config.json``; without it, the configuration's size and ImageNet's constants."""
    size = getattr(config, "image_size", None) or 224
    try:
        offline = weights == "random" and not Path(source).is_dir()
        file = None if offline else transformers.utils.cached_file(source, "preprocessor_config.json")
    except (OSError, ValueError):
        file = None
    if file is None:
        return Preprocessing(size=int(size))
    said = json.loads(Path(file).read_text(encoding="utf-8"))
    resized = said.get("size", size)
    if isinstance(resized, dict):
        resized = resized.get("shortest_edge") or resized.get("height") or size
    crop = said.get("crop_size") if said.get("do_center_crop") else None
    crop = crop.get("height") if isinstance(crop, dict) else crop
    return Preprocessing(
        size=int(resized),
        crop=crop,
        interpolation=PILLOW.get(said.get("resample", 3), "bicubic"),  # type: ignore[arg-type]
        mean=tuple(said.get("image_mean", Preprocessing.mean)),
        std=tuple(said.get("image_std", Preprocessing.std)),
    )


def _layer_names(config: Any, run: Any, preprocessing: Preprocessing, transformers: Any) -> list[str]:
    """Names of the layers, from a run on torch's ``meta`` device."""
    side = preprocessing.input_size or 224
    with torch.device("meta"), torch.inference_mode():
        sketch = transformers.AutoModel.from_config(config).eval()
        outputs = run(sketch, torch.zeros(1, 3, side, side))
        output = sketch(pixel_values=torch.zeros(1, 3, side, side), output_hidden_states=True)
    hidden = len(output.hidden_states)
    return [f"layer{number}" for number in range(hidden)] + ["pooled"] * (len(outputs) - hidden)


def open_timm(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """A model of timm. Its layers are its modules, by their dotted names."""
    timm = library("timm")
    source = name.partition(":")[2]
    if not timm.is_model(source.partition(".")[0]):
        raise one_of("model of timm", source, timm.list_models(f"*{source[:6]}*")[:12])
    with seeded(seed):
        module = _offline(lambda: timm.create_model(source, pretrained=weights is None), name)
    load_weights(module, weights)
    config = timm.data.resolve_model_data_config(module)
    side = int(config["input_size"][1])
    preprocessing = Preprocessing(
        size=int(side / config.get("crop_pct", 1)),
        crop=side,
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    return hooked(name, module, layers, preprocessing, weights=weights or source, version=f"timm {timm.__version__}")


def open_torchvision(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """A classification model of torchvision. Its layers are its modules, by their dotted names."""
    torchvision = library("torchvision")
    source = name.partition(":")[2]
    models = torchvision.models
    if source not in models.list_models():
        raise one_of("model of torchvision", source, models.list_models(models))
    published = models.get_model_weights(source).DEFAULT
    with seeded(seed):
        module = _offline(lambda: models.get_model(source, weights=published if weights is None else None), name)
    load_weights(module, weights)
    transform = published.transforms()
    preprocessing = Preprocessing(
        size=int(transform.resize_size[0]),
        crop=int(transform.crop_size[0]),
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )
    about = {"weights": weights or str(published), "version": f"torchvision {torchvision.__version__}"}
    return hooked(name, module, layers, preprocessing, **about)


def open_open_clip(name: str, weights: str | None, seed: int, layers: Sequence[str] | None) -> Network:
    """The image tower of a model of open_clip, ``open_clip:ARCHITECTURE`` or ``open_clip:ARCHITECTURE/PRETRAINED``."""
    open_clip = library("open_clip")
    source, _, pretrained = name.partition(":")[2].partition("/")
    if source not in open_clip.list_models():
        raise one_of("model of open_clip", source, open_clip.list_models())
    with seeded(seed):
        model = _offline(
            lambda: open_clip.create_model(source, pretrained=pretrained or None if weights is None else None), name
        )
    load_weights(model, weights)
    visual = model.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    preprocessing = Preprocessing(size=int(size), crop=int(size), mean=visual.image_mean, std=visual.image_std)
    about = {"weights": weights or pretrained or "random", "version": f"open_clip {open_clip.__version__}"}
    return hooked(name, visual, layers, preprocessing, **about)
