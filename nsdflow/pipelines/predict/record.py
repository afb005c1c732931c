"""Record of how finished runs of one kind predict images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    import xarray as xr
    from numpy.typing import NDArray
    from torch import Tensor

    from nsdflow.runs.folder import RunFolder

__all__ = ["Predictor", "PredictorKind"]


class Predictor(Protocol):
    """The networks and readouts that predict one subject."""

    @property
    def voxels(self) -> xr.Dataset:
        """Voxel coordinates of the run."""

    def to(self, device: torch.device) -> Predictor:
        """Return the predictor on a device."""

    def check_size(self, images: Tensor) -> None:
        """Raise a RunError for images of another size than those of the training."""

    def predict(
        self, images: Tensor, *, batch_size: int, nsd_id: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Predictions (image, voxel) of images (image, 3, y, x), uint8, for all voxels of the run.

        ``nsd_id`` (image,) are their ids if they are images of NSD; a run on features from a file needs them. Images
        pass in batches of ``batch_size``. A batch gives the same bits wherever it begins in a longer list.
        """


@dataclass(frozen=True)
class PredictorKind:
    """Functions and memory with which runs of one kind predict."""

    load: Callable[[RunFolder, str], Predictor]
    memory: int
    """Bytes of the network and of the maps of a batch of 100 images."""
