"""Inputs of a training: the images, or the cached maps of the frozen prefilter.

The output of a frozen prefilter never changes, so it can be computed once per image instead of once per image and
epoch. The maps have 192 features x 27 x 27 pixels. An image of 227 x 227 pixels takes 560 kB as float32 and 280 kB as
float16, and all 73,000 images take 20 GB as float16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from nsdflow.errors import RunError
from nsdflow.models.gnet import Encoder, prefilter_shape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nsdflow.fit.precision import Precision

__all__ = ["CACHE_SHARE", "PrefilterCache", "choose_cache", "load_inputs"]

PrefilterCache = Literal["auto", "none", "half", "full"]

#: Share of the free GPU memory that the maps may take under ``auto``.
CACHE_SHARE = 0.75


def choose_cache(
    encoder: nn.Module, images: Tensor, device: torch.device, precision: Precision, free: int | None = None
) -> PrefilterCache:
    """Resolve ``auto`` to "half" or "none".

    The result is "half" on a GPU under ``tf32`` or ``bfloat16``, if the maps fit into memory. These precisions round
    products at least as much as float16 rounds the maps: TF32 and float16 have ten mantissa bits, and bfloat16 has
    seven. On a CPU, under ``float32`` or with a trained prefilter, the result is "none".

    Parameters
    ----------
    encoder : torch.nn.Module
        Encoder to train. Only :class:`~nsdflow.models.gnet.Encoder` has a prefilter.
    images : torch.Tensor
        (image, 3, y, x) uint8.
    free : int, optional
        Free bytes on the device. Default: queried from the GPU.
    """
    if device.type != "cuda" or precision not in ("tf32", "bfloat16") or not isinstance(encoder, Encoder):
        return "none"
    if any(parameter.requires_grad for parameter in encoder.prefilter.parameters()):
        return "none"
    free = torch.cuda.mem_get_info(device)[0] if free is None else free
    features, y, x = prefilter_shape(*images.shape[2:])
    return "half" if len(images) * features * y * x * torch.float16.itemsize <= CACHE_SHARE * free else "none"


@torch.no_grad()
def load_inputs(
    encoder: nn.Module, images: Tensor, cache: PrefilterCache, device: torch.device, batch_size: int
) -> Tensor:
    """Return the images on the device, or the prefilter maps in float16 ("half") or the encoder's dtype ("full").

    Raises
    ------
    RunError
        The encoder has no prefilter to cache.
    """
    if cache == "none":
        return images.to(device)
    if not isinstance(encoder, Encoder):
        raise RunError(f"{type(encoder).__name__} has no prefilter to cache; set prefilter_cache=none")
    dtype = torch.float16 if cache == "half" else encoder.prefilter.mean.dtype
    maps = torch.empty(len(images), *prefilter_shape(*images.shape[2:]), dtype=dtype, device=device)
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        maps[batch] = encoder.prefilter(images[batch].to(device))
    return maps
