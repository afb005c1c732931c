"""Peak memory of an fwRF fit, predicted before the fit runs, and block sizes that keep it below a budget.

Block sizes change what is held in memory at once, but not the result. Products are computed in fixed tiles of
candidates, images and voxels that do not depend on the blocks, so every budget gives bit-identical results.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nsdflow.errors import PlanError
from nsdflow.fit.ridge import Form, system_dtype
from nsdflow.models.pooling import CANDIDATE_TILE, IMAGE_TILE

__all__ = ["VOXEL_TILE", "FwrfMemory", "FwrfShape", "free_memory", "plan_memory"]

#: Voxels per product with responses.
VOXEL_TILE = 4096

#: Default share of the free memory that a fit may take.
SHARE_OF_FREE = 0.8

#: Most bytes of candidate systems that a fit keeps from search to solution, to avoid preparing the winners twice.
KEPT_BYTES = 1 << 30

#: Bytes for the workspace of BLAS and LAPACK and for allocator rounding.
FWRF_OVERHEAD_BYTES = 64 << 20


@dataclass(frozen=True)
class FwrfShape:
    """Sizes of one fit."""

    candidates: int
    images: int
    train: int
    holdout: int
    features: int
    voxels: int
    form: Form
    image_bytes: tuple[int, int]
    """Bytes of the maps of one image: of the largest level, and of all levels."""
    copied: bool
    """Whether maps must be copied to the device."""


@dataclass(frozen=True)
class FwrfMemory:
    """Block sizes on the device, and the peak in bytes beyond the maps and responses passed to the fit."""

    bytes: int
    voxels: int
    candidates: int
    resident: bool
    """Whether all feature maps are copied to the device at the start, instead of tile by tile."""
    kept: bool = False
    """Whether the systems of all candidates are kept from search to solution."""


def plan_memory(shape: FwrfShape, budget: int | None = None, *, keep: bool = False) -> FwrfMemory:
    """Choose the largest blocks whose peak stays within ``budget`` bytes (None: no limit).

    Memory is spent in this order: resident maps, more voxels per block, more candidates per block and, with ``keep``,
    the systems of all candidates if they are small.

    Raises
    ------
    PlanError
        The smallest blocks exceed the budget.
    """
    most = min(shape.candidates, CANDIDATE_TILE)
    whole = -(-shape.voxels // VOXEL_TILE) * VOXEL_TILE
    steps = [(False, VOXEL_TILE, 1, False)]
    steps += [(shape.copied, voxels, 1, False) for voxels in range(VOXEL_TILE, whole + 1, VOXEL_TILE)]
    steps += [(shape.copied, whole, candidates, False) for candidates in range(2, most + 1)]
    if keep and _kept_bytes(shape) <= KEPT_BYTES:
        steps += [(shape.copied, whole, most, True)]
    plans = [_planned(shape, *step) for step in steps]
    allowed = plans[-1].bytes if budget is None else budget
    fitting = [plan for plan in plans if plan.bytes <= allowed]
    if not fitting:
        raise PlanError(
            f"an fwRF fit of {shape.images} images x {shape.features} features in the {shape.form} form needs at least "
            f"{plans[0].bytes / 2**30:.2f} GiB, {allowed / 2**30:.2f} GiB are allowed; "
            "give it more memory or fewer features"
        )
    return replace(fitting[-1], voxels=min(fitting[-1].voxels, shape.voxels))


def _planned(shape: FwrfShape, resident: bool, voxels: int, candidates: int, kept: bool) -> FwrfMemory:
    """Compute the peak for one choice of blocks: memory held throughout the fit plus the larger of its two stages."""
    columns = shape.features + 1
    voxels = min(voxels, shape.voxels)
    side = _side(shape)
    item = system_dtype(shape.form).itemsize
    pooled = 4 * candidates * shape.images * shape.features
    largest, maps = shape.image_bytes
    pooling = IMAGE_TILE * (largest + 4 * shape.features * CANDIDATE_TILE)
    standardising = 3 * 4 * shape.images * columns
    rows = 4 * columns * (shape.train + shape.holdout)
    doubled = 8 * columns * (shape.train + shape.holdout) if item == 8 else 0
    squares = 5 if shape.form == "dual" else 3  # the system, its factor (primal) or eigenvectors (dual), and workspace
    system = item * (squares * side**2 + 4 * shape.holdout * side) + 4 * shape.holdout * side
    precise = 8 if shape.form == "primal64" else 4  # bytes per item of right sides and residuals
    doubled_responses = 8 * shape.train if shape.form == "primal64" else 0
    projected = precise * side * (voxels + min(voxels, VOXEL_TILE)) + doubled_responses * min(voxels, VOXEL_TILE)
    responses = (4 * (shape.train + shape.holdout) + 32) * voxels
    residuals = 3 * precise * shape.holdout * min(voxels, VOXEL_TILE)
    searching = pooled + responses + max(pooling, standardising, rows + doubled + system + projected + residuals)
    results = 3 * 4 * shape.voxels * columns
    winner = 4 * shape.train + doubled_responses + 4 * item * side + 3 * 4 * columns
    winners = winner * min(shape.voxels, VOXEL_TILE)
    solving = pooled + results + max(pooling, standardising, rows + doubled + system + winners)
    resident_maps = maps * shape.images if resident else 0
    peak = resident_maps + kept * _kept_bytes(shape) + max(searching, solving) + FWRF_OVERHEAD_BYTES
    return FwrfMemory(peak, voxels, candidates, resident, kept)


def _kept_bytes(shape: FwrfShape) -> int:
    """Bytes of training rows, products, mean and std of all candidates."""
    rows, products = 4 * (shape.features + 1) * (shape.train + 2), system_dtype(shape.form).itemsize * _side(shape) ** 2
    return shape.candidates * (rows + products)


def _side(shape: FwrfShape) -> int:
    """Side length of the square system."""
    return shape.train if shape.form == "dual" else shape.features + 1


def free_memory(device: torch.device) -> int:
    """Return the bytes of free device memory that a fit takes by default."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_FREE)
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: half of the installed memory
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(int(fields["MemAvailable"].split()[0]) * 1024 * SHARE_OF_FREE)
