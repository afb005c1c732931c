"""Networks of finished runs, rebuilt from ``run.yaml`` and ``model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from nsdflow.errors import MissingDataError, RunError, one_of
from nsdflow.fit.gnet.evaluate import predict
from nsdflow.io.tensors import load_tensors
from nsdflow.models.gnet import level_shapes
from nsdflow.models.saved.gnet import build_encoder, load_readouts
from nsdflow.models.saved.parts import below
from nsdflow.pipelines.common.earlier import run_settings, voxels_of
from nsdflow.pipelines.gnet.settings import GNetPipeline

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from numpy.typing import NDArray
    from torch import nn

    from nsdflow.models.gnet import Encoder, Readout
    from nsdflow.runs.folder import RunFolder

__all__ = ["SavedGNet", "SubjectModel", "TrunkReadout", "load_gnet", "load_readouts", "load_subject_model"]


@dataclass(frozen=True)
class TrunkReadout:
    """An encoder with one subject's readout, and the voxels (columns) of the run that it predicts."""

    name: str
    encoder: nn.Module
    readout: Readout
    columns: NDArray[np.intp]


@dataclass(frozen=True)
class SubjectModel:
    """Networks that predict one subject: a single trunk, or one per group of voxels."""

    trunks: tuple[TrunkReadout, ...]
    voxels: xr.Dataset
    """Voxel coordinates of the run."""

    def to(self, device: torch.device) -> SubjectModel:
        """Move the networks to a device."""
        for trunk in self.trunks:
            trunk.encoder.to(device)
            trunk.readout.to(device)
        return self

    def predict(
        self, images: torch.Tensor, *, batch_size: int = 100, nsd_id: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Predictions (image, voxel) of images (image, 3, y, x), uint8, for all voxels of the run."""
        whole = np.empty((len(images), self.voxels.sizes["voxel"]), np.float32)
        for trunk in self.trunks:
            part = predict(trunk.encoder, trunk.readout, images, batch_size=batch_size)
            whole[:, trunk.columns] = part.cpu().numpy()
        return whole

    def check_size(self, images: torch.Tensor) -> None:
        """Raise for images of another size than those of the training.

        Raises
        ------
        RunError
            The pooling fields of the readouts do not fit the feature maps.
        """
        for trunk in self.trunks:
            fields = [tuple(logits.shape[1:]) for logits in trunk.readout.pooling_logits]
            if fields != [(level.y, level.x) for level in level_shapes(trunk.encoder, images)]:
                raise RunError(
                    f"{trunk.name} was trained on images of another size than these of "
                    f"{images.shape[-1]} pixels; use the store it was trained on"
                )


@dataclass(frozen=True)
class SavedGNet:
    """One trunk of a finished GNet run, with the readouts of its voxels by subject; on the CPU, in eval mode."""

    config: GNetPipeline
    encoder: Encoder
    readouts: Mapping[str, Readout]


def load_gnet(run: RunFolder, part: str | None = None, *, which: Literal["best", "final"] = "best") -> SavedGNet:
    """Load the trunk and the readouts of a GNet run.

    Parameters
    ----------
    part : str, optional
        ROI group of the trunk, in a run with several trunks.
    which : {"best", "final"}
        Epoch of the networks.

    Raises
    ------
    MissingDataError
        There is no such run, or it is not finished.
    RunError
        It is a run of another kind.
    SelectionError
        The run has no such trunk.
    """
    if not run.finished:
        raise MissingDataError(f"{run.path}: no finished run; do nsdflow run first")
    config = run_settings(run, GNetPipeline)
    groups = config.roi_groups or ()
    several = len(groups) > 1
    if (several and part is None) or (part is not None and part not in groups):
        raise one_of(f"trunk in {run.path}", part, groups)
    state = load_tensors(run.url("model.safetensors"))
    if several and part is not None:
        state = below(state, part)
    if which == "final":
        state = below(state, "final")
        if not state:
            raise RunError(
                f"{run.path}: keeps no networks of the last epoch; run it again with this version of nsdflow"
            )
    encoder = build_encoder(state, dropout=config.train.dropout)
    return SavedGNet(config, encoder, load_readouts(state))


def load_subject_model(run: RunFolder, subject: str) -> SubjectModel:
    """Load the networks of one subject of a finished GNet run.

    Raises
    ------
    MissingDataError
        There is no such run, or it is not finished.
    RunError
        It is a run of another kind.
    SelectionError
        The run lacks the subject.
    """
    groups = run_settings(run, GNetPipeline).roi_groups or ()
    parts = groups if len(groups) > 1 else (None,)
    saved = {part: load_gnet(run, part) for part in parts}
    voxels = voxels_of(run, subject)
    trunks = []
    for part, networks in saved.items():
        if subject not in networks.readouts:
            continue  # a subject without voxels in one area
        columns = np.arange(voxels.sizes["voxel"]) if part is None else np.flatnonzero(voxels["part"].values == part)
        trunks.append(TrunkReadout(networks.config.name, networks.encoder, networks.readouts[subject], columns))
    return SubjectModel(tuple(trunks), voxels)
