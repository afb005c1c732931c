"""What a training reads its batches from: the images, or in their place the frozen prefilter's maps of them.

The prefilter's output never changes, so it can be computed once an image instead of once a batch and epoch. Its maps
take 192 values for each of 27 x 27 pixels: 560 kB an image of 227 pixels as float32, 280 kB as float16, 20 GB for all
73,000.
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

#: ``auto`` lets the maps take this share of the memory that is free on a GPU before they are made
CACHE_SHARE = 0.75


def choose_cache(
    encoder: nn.Module, images: Tensor, device: torch.device, precision: Precision, free: int | None = None
) -> PrefilterCache:
    """What ``auto`` means here: "half" on a GPU whose products are rounded anyway, where the maps fit; else "none".

    On a CPU, under ``float32``, or with a prefilter that is trained, nothing is kept and so nothing is rounded. TF32
    has the ten bits of mantissa that float16 has, and bfloat16 has seven.

    Parameters
    ----------
    free
        Bytes of the device that nothing uses yet; asked of a GPU where None.
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
    """The images on the device; or the maps, in float16 ("half") or in the precision of the encoder ("full").

    Raises
    ------
    RunError
        The encoder has no prefilter of which maps could be kept.
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
