"""Tiles of voxels of an fwRF fit: responses on the device, and the best candidate and lambda so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nsdflow.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from nsdflow.fit.fwrf.trials import TrialSums
    from nsdflow.fit.ridge import Scorer

__all__ = ["VoxelTile", "score", "voxel_tiles"]


@dataclass
class VoxelTile:
    """Responses of a tile of voxels on the device, and the best candidate and lambda so far.

    ``train`` (train image, voxel) and ``target`` (holdout image, voxel) are weighted sums and means of responses, as in
    :class:`~nsdflow.fit.fwrf.trials.TrialSums`. All other tensors have shape (voxel,).
    """

    train: Tensor
    target: Tensor
    unexplainable: Tensor
    loss: Tensor
    candidate: Tensor
    lambda_index: Tensor
    broken: Tensor
    """Whether a loss was NaN."""

    def consider(self, loss: Tensor, candidate: int, lambda_index: int) -> None:
        """Keep this candidate and lambda for voxels with a smaller loss (voxel,). On ties the earlier one stays."""
        self.broken |= loss.isnan()
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
        self.candidate.masked_fill_(better, candidate)
        self.lambda_index.masked_fill_(better, lambda_index)

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss, candidate and lambda index on the CPU. Only this method waits for the device."""
        if bool(self.broken.any()):
            raise RunError(
                f"losses of {int(self.broken.sum())} voxels are not numbers: features are not finite, or a lambda is "
                "so small that rounding hides it; look at the features, or raise the smallest lambda"
            )
        return self.loss.cpu(), self.candidate.cpu(), self.lambda_index.cpu()


def voxel_tiles(trials: TrialSums, voxels: range, size: int, device: torch.device) -> list[VoxelTile]:
    """Split a range of voxels into tiles of at most ``size``, on the device, with infinite initial loss."""
    tiles = []
    for start in range(voxels.start, voxels.stop, size):
        part = slice(start, min(start + size, voxels.stop))
        unexplainable = trials.unexplainable[part].to(device)
        tiles.append(
            VoxelTile(
                train=trials.train_sum[:, part].to(device).contiguous(),
                target=trials.holdout_mean[:, part].to(device).contiguous(),
                unexplainable=unexplainable,
                loss=torch.full_like(unexplainable, torch.inf, dtype=torch.float32),
                candidate=torch.full_like(unexplainable, -1, dtype=torch.int64),
                lambda_index=torch.full_like(unexplainable, -1, dtype=torch.int64),
                broken=torch.zeros_like(unexplainable, dtype=torch.bool),
            )
        )
    return tiles


def score(candidate: int, scorer: Scorer, held: Tensor, lambdas: Sequence[float], tiles: list[VoxelTile]) -> None:
    """Update the tiles with the holdout losses of one candidate and every lambda."""
    rights = [scorer.right(tile.train) for tile in tiles]
    for lambda_index, operator in enumerate(scorer.operators(held, lambdas)):
        for tile, right in zip(tiles, rights, strict=True):
            residual = torch.addmm(tile.target.to(right.dtype), operator, right, alpha=-1)
            explainable = residual.square_().sum(0, dtype=torch.float64)
            tile.consider((explainable + tile.unexplainable).float(), candidate, lambda_index)
