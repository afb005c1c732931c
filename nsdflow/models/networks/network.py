"""A network with named layers, its preprocessing of images, and the outputs of its layers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsdflow.errors import one_of

__all__ = ["IMAGENET", "Network", "Preprocessing", "as_maps", "seeded", "weights_hash"]


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of an image (3, y, x) of 0 to 255 to the input of a network.

    The image is resized so that its shorter side has ``size`` pixels, cropped to ``crop`` x ``crop`` in the middle,
    divided by 255 and standardised. ``None`` leaves a step out.
    """

    size: int | None = 224
    crop: int | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, images: Tensor) -> Tensor:
        """Inputs (image, 3, y, x) float32 of images (image, 3, y, x), uint8 or floats of 0 to 255."""
        # on the CPU, torch resizes bytes as Pillow does, rounding included
        pixels = images if images.dtype == torch.uint8 and images.device.type == "cpu" else images.float()
        if self.size is not None and min(pixels.shape[2:]) != self.size:
            ratio = self.size / min(pixels.shape[2:])
            sides = [round(side * ratio) for side in pixels.shape[2:]]
            pixels = functional.interpolate(pixels, sides, mode=self.interpolation, antialias=True).clamp(0, 255)
        pixels = pixels.float()
        if self.crop is not None:
            y, x = ((side - self.crop) // 2 for side in pixels.shape[2:])
            pixels = pixels[:, :, y : y + self.crop, x : x + self.crop]
        mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (self.mean, self.std))
        standardised: Tensor = (pixels / 255).sub(mean).div(std)
        return standardised

    @property
    def input_size(self) -> int | None:
        """Pixels per side of the input; None if it is the size of the image."""
        return self.crop or self.size


#: Images of unchanged size, standardised with ImageNet's constants.
IMAGENET = Preprocessing(size=None)


class Network(nn.Module):
    """A frozen network that returns the maps of its layers.

    Parameters
    ----------
    name : str
        Name, as in a pipeline file.
    module : nn.Module
        Module that computes the layers.
    layers : sequence of str
        Names of the layers, in order.
    run : callable
        Takes the module and images (image, 3, y, x) of 0 to 255, and returns one tensor per layer: maps (image,
        channel, y, x), tokens (image, token, channel) or vectors (image, channel).
    preprocessing : Preprocessing or None
        Preprocessing, for the record; None if it is part of the module.
    weights : str
        Source of the weights.
    version : str
        Name and version of the library.
    config : mapping, optional
        Configuration of the module as JSON values, where its name alone does not determine its shape. Saved models keep
        it, and the function ``rebuild_at`` of the record of the network takes it.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        layers: Sequence[str],
        run: Callable[[nn.Module, Tensor], list[Tensor]],
        *,
        preprocessing: Preprocessing | None = None,
        weights: str = "none",
        version: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.layers, self.preprocessing = name, tuple(layers), preprocessing
        self.weights, self.version, self.config = weights, version, config
        self.module, self._run = module.eval().requires_grad_(False), run

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (image, channel, y, x), one per layer: tokens on their grid, vectors as 1 x 1 maps."""
        return [as_maps(tensor) for tensor in self.outputs(images)]

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Outputs of the layers, in their own shapes."""
        return self._run(self.module, images)

    def only(self, layers: Sequence[str] | None) -> Network:
        """Return the network with some of its layers, in the order of the network.

        Raises
        ------
        SelectionError
            The network has no such layer.
        """
        if layers is None:
            return self
        for layer in layers:
            if layer not in self.layers:
                raise one_of(f"layer of {self.name}", layer, self.layers)
        numbers = [number for number, layer in enumerate(self.layers) if layer in layers]

        def some(module: nn.Module, images: Tensor) -> list[Tensor]:
            outputs = self._run(module, images)
            return [outputs[number] for number in numbers]

        return Network(
            self.name,
            self.module,
            [self.layers[number] for number in numbers],
            some,
            preprocessing=self.preprocessing,
            weights=self.weights,
            version=self.version,
            config=self.config,
        )

    def shapes(self, image_size: int) -> dict[str, tuple[int, ...]]:
        """Shape of each layer's output for one image of ``image_size`` pixels, without the image axis."""
        device = next((tensor.device for tensor in self.module.state_dict().values()), torch.device("cpu"))
        with torch.inference_mode():
            outputs = self.outputs(torch.zeros(1, 3, image_size, image_size, device=device))
        return {layer: tuple(tensor.shape[1:]) for layer, tensor in zip(self.layers, outputs, strict=True)}

    def identity(self) -> dict[str, Any]:
        """Everything that determines the features: name, version, layers, preprocessing, weights and their hash."""
        return {
            "name": self.name,
            "version": self.version,
            "layers": list(self.layers),
            "preprocessing": asdict(self.preprocessing) if self.preprocessing else "built in",
            "weights": self.weights,
            "weights_sha256": weights_hash(self.module),
        }


def as_maps(tensor: Tensor) -> Tensor:
    """Any output of a layer as maps (image, channel, y, x).

    The last tokens form the largest square grid. The tokens before them (class, registers) are left out.
    """
    if tensor.ndim == 4:
        return tensor
    if tensor.ndim == 2:
        return tensor[:, :, None, None]
    side = math.isqrt(tensor.shape[1])
    grid = tensor[:, tensor.shape[1] - side * side :].transpose(1, 2)
    return grid.reshape(*grid.shape[:2], side, side)


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of names and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        if tensor.device.type != "meta":
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator within the block, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
