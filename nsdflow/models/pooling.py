"""Candidate receptive fields of the fwRF model, and the weight each gives to the pixels of a feature map.

A candidate is an isotropic Gaussian ``(x, y, sigma)`` in units of the aperture, which spans -0.5 to 0.5 on both
axes, x to the right and y **upward** (row 0 of a map is its top).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["CANDIDATE_TILE", "candidate_grid", "log_spaced_sizes", "pool", "pooling_weights"]

#: Products are computed in tiles of this many candidates and images, whatever the size of the request. A pooled
#: feature therefore has the same bits in every block that holds it.
CANDIDATE_TILE = 32
IMAGE_TILE = 64

#: Extent of the published grids: centres reach 5 % of the aperture beyond its border.
GRID_EXTENT = 1.1


def log_spaced_sizes(count: int = 8, smallest: float = 0.03, largest: float = 0.4) -> npt.NDArray[np.float64]:
    """``count`` sizes with equal ratios, both ends included (defaults: the published AlexNet-fwRF)."""
    return np.geomspace(smallest, largest, count)


def candidate_grid(
    sizes: Sequence[float] | npt.NDArray[np.floating[Any]], *, spacing: float = 1.0
) -> npt.NDArray[np.floating[Any]]:
    """Equal grids of centres, finer for smaller fields.

    A size ``s`` gets ``n = ceil(w / (spacing * s))`` centres from ``-w / 2`` to ``w / 2`` on each axis, where ``w`` is
    :data:`GRID_EXTENT`.

    Parameters
    ----------
    sizes : sequence of float or ndarray, (size,)
        Standard deviations, in apertures. The grid is computed in their precision: float32 sizes give the float32
        values of code that works in float32.
    spacing : float
        Approximate distance between neighbouring centres, in sizes (published: 1 for AlexNet, 1.4 for Gabor).

    Returns
    -------
    ndarray, (candidate, 3)
        Values of x, y and sigma. Sizes are in the given order; within a size x varies fastest, then y.

    Examples
    --------
    >>> len(candidate_grid(log_spaced_sizes(8, 0.03, 0.4)))
    2680
    >>> len(candidate_grid(log_spaced_sizes(8, 0.04, 0.4), spacing=1.4))
    875
    """
    sigmas = np.asarray(sizes)
    if not np.issubdtype(sigmas.dtype, np.floating):
        sigmas = sigmas.astype(np.float64)
    if sigmas.ndim != 1 or not (sigmas > 0).all():
        raise ValueError(f"sizes must be one row of positive numbers, not {sizes!r}")
    half = sigmas.dtype.type(GRID_EXTENT) / 2
    grids = []
    for sigma in sigmas:
        axis = np.linspace(-half, half, int(np.ceil(2 * half / (sigma * spacing))), dtype=sigmas.dtype)
        y, x = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
        grids.append(np.stack([x, y, np.full_like(x, sigma)], axis=1))
    return np.concatenate(grids)


def pooling_weights(candidates: npt.ArrayLike | torch.Tensor, size: int) -> torch.Tensor:
    """Weight of every pixel of a ``size`` x ``size`` map under every candidate.

    Let d = 1 / size be the width of a pixel. A candidate with ``sigma >= d`` is the sampled Gaussian
    ``d^2 / (2 pi sigma^2) exp(-r^2 / (2 sigma^2))``, not renormalised where the map cuts it. A candidate smaller
    than a pixel is the exact mass of the Gaussian in each pixel, and ``sigma <= 0`` gives zeros. Both kinds are
    separable, so each axis is computed alone.

    Parameters
    ----------
    candidates : array_like or Tensor, (candidate, 3)
        Values of x, y and sigma, in apertures.
    size : int
        Pixels per side of the map.

    Returns
    -------
    Tensor, (candidate, size, size)
        Weights in float64, on the CPU. Axis 1 runs down the map, from y = 0.5 to y = -0.5.
    """
    x, y, sigma = torch.as_tensor(candidates).to("cpu", torch.float64).unbind(dim=1)
    pixel = 1.0 / size
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * pixel - 0.5

    def along(position: torch.Tensor) -> torch.Tensor:
        width = torch.where(sigma > 0, sigma, 1.0)[:, None]
        offset = centres - position[:, None]
        sampled = pixel / (width * (2 * torch.pi) ** 0.5) * torch.exp(-0.5 * (offset / width) ** 2)
        upper, lower = ((offset + side * pixel / 2) / (width * 2**0.5) for side in (1, -1))
        mass = 0.5 * (torch.erf(upper) - torch.erf(lower))
        return torch.where(sigma[:, None] >= pixel, sampled, mass) * (sigma > 0)[:, None]

    return along(y).flip(1)[:, :, None] * along(x)[:, None, :]


def pool(
    maps: Sequence[torch.Tensor | npt.NDArray[Any]],
    candidates: npt.NDArray[np.floating[Any]],
    block: range,
    rows: torch.Tensor,
    *,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Pooled features of some candidates: the maps' sums under each candidate's weights.

    Parameters
    ----------
    maps : sequence of Tensor or ndarray, each (image, channel, y, x)
        Square maps, one array per level; in memory, memory-mapped or on ``device``.
    candidates : ndarray, (candidate, 3)
        The whole grid.
    block : range
        Candidates to pool.
    rows : Tensor, (image,)
        Images to pool.
    device : torch.device or str
        Device that computes the products.

    Returns
    -------
    Tensor, (candidate, image, feature)
        Features of the candidates in ``block`` and the images in ``rows``, in float32 on ``device``. Levels are
        joined along the features.
    """
    channels = [int(level.shape[1]) for level in maps]
    pooled = torch.empty(len(block), len(rows), sum(channels), device=device)
    for first in range(block.start - block.start % CANDIDATE_TILE, block.stop, CANDIDATE_TILE):
        tile = range(first, min(first + CANDIDATE_TILE, len(candidates)))
        wanted = range(max(block.start, tile.start), min(block.stop, tile.stop))
        target = pooled[wanted.start - block.start : wanted.stop - block.start]
        kept = slice(wanted.start - tile.start, wanted.stop - tile.start)
        for level, part in zip(maps, target.split(channels, dim=2), strict=True):
            weights = pooling_weights(candidates[tile.start : tile.stop], level.shape[-1])
            weights = weights.flatten(1).to(device, torch.float32)
            for start in range(0, len(rows), IMAGE_TILE):
                shown = _rows(level, rows[start : start + IMAGE_TILE]).to(device)
                sums = weights @ shown.flatten(0, 1).flatten(1).T
                part[:, start : start + IMAGE_TILE] = sums.view(-1, *shown.shape[:2])[kept]
    return pooled


def _rows(level: torch.Tensor | npt.NDArray[Any], rows: torch.Tensor) -> torch.Tensor:
    """Some images of a level; a view where they follow each other."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1 and bool((rows.diff() == 1).all()):
        return torch.as_tensor(level[first : last + 1]).float()
    index = rows.to(level.device) if isinstance(level, torch.Tensor) else rows.numpy()
    return torch.as_tensor(level[index]).float()
