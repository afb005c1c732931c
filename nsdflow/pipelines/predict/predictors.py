"""Predictors of images from finished runs: one record per kind of run that can predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch

from nsdflow.errors import MissingDataError, RunError
from nsdflow.fit.fwrf import FwrfResult, predict
from nsdflow.models.gnet import FrozenEncoder
from nsdflow.models.networks import NETWORKS
from nsdflow.models.networks.levels import ChannelSelection
from nsdflow.pipelines.common.earlier import recorded_pipeline, run_settings, voxels_of
from nsdflow.pipelines.fpf import FpfPipeline
from nsdflow.pipelines.fpf import network_of as fpf_network
from nsdflow.pipelines.fwrf.features import (
    candidates_of,
    layer_names,
    network_of,
)
from nsdflow.pipelines.fwrf.settings import FwrfPipeline
from nsdflow.pipelines.gnet.saved import SubjectModel, TrunkReadout, load_readouts, load_subject_model
from nsdflow.pipelines.kinds import KINDS
from nsdflow.runs import open_run
from nsdflow.runs.tensors import load_tensors

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from nsdflow.runs.folder import RunFolder

__all__ = ["FwrfModel", "Predictor", "PredictorKind", "load_fpf", "load_fwrf", "load_predictor", "predictor_kind"]


_NO_CHANNELS: Final = "{}: made by an older nsdflow, and does not say which channels it reads; run it again"


class Predictor(Protocol):
    """The networks and readouts that predict one subject."""

    @property
    def voxels(self) -> xr.Dataset:
        """Voxel coordinates of the run."""

    def to(self, device: torch.device) -> Predictor:
        """Return the predictor on a device."""

    def check_size(self, images: Tensor) -> None:
        """Raise a RunError for images of another size than those of the training."""

    def predict(self, images: Tensor, *, batch_size: int) -> NDArray[np.float32]:
        """Predictions (image, voxel) of images (image, 3, y, x), uint8, for all voxels of the run.

        Images pass in batches of ``batch_size``. A batch gives the same bits wherever it begins in a longer list.
        """


@dataclass(frozen=True)
class FwrfModel:
    """A fitted fwRF of one subject with its feature network."""

    name: str
    network: nn.Module
    channels: ChannelSelection
    result: FwrfResult
    image_size: int
    voxels: xr.Dataset
    device: torch.device

    def to(self, device: torch.device) -> FwrfModel:
        return replace(self, network=self.network.to(device), device=device)

    def check_size(self, images: Tensor) -> None:
        if images.shape[-1] != self.image_size:
            raise RunError(
                f"{self.name} was fitted on images of {self.image_size} pixels, not {images.shape[-1]}; "
                "use the store it was fitted on"
            )

    @torch.no_grad()
    def predict(self, images: Tensor, *, batch_size: int) -> NDArray[np.float32]:
        whole = np.empty((len(images), len(self.result.rf)), np.float32)
        for start in range(0, len(images), batch_size):
            maps = self.channels.of(self.network(images[start : start + batch_size].to(self.device)))
            whole[start : start + batch_size] = predict(self.result, maps, device=self.device).numpy()
        return whole


def load_fwrf(run: RunFolder, subject: str) -> FwrfModel:
    """Load the fitted fields and weights of one subject of a finished fwRF run, and their network.

    Raises
    ------
    MissingDataError
        If there is no such run, or it is not finished.
    RunError
        If it is a run of another kind, or one that does not say which channels its features are.
    SelectionError
        If the run lacks the subject.
    """
    config, voxels = run_settings(run, FwrfPipeline), voxels_of(run, subject)
    results = open_run(run.path)[subject].to_dataset().load()
    if "channel" not in results.coords:
        raise RunError(_NO_CHANNELS.format(run.path))
    size, grid, names = int(results.attrs["image_size"]), candidates_of(config), layer_names(config)
    layer = np.array([names.index(name) for name in results["layer"].values.tolist()])
    # results hold fields rounded to float32; the grid has the exact ones
    number = {tuple(field): index for index, field in enumerate(grid.astype(np.float32).tolist())}
    candidate = torch.tensor([number[tuple(field)] for field in results["rf"].values.tolist()])

    def values(name: str) -> Tensor:
        return torch.from_numpy(results[name].values)

    fitted = FwrfResult(
        rf=torch.as_tensor(grid)[candidate],
        lambda_=values("lambda"),
        lambda_index=torch.full_like(candidate, -1),
        candidate=candidate,
        holdout_loss=values("holdout_loss"),
        weights=values("weights"),
        bias=values("bias"),
        feature_mean=values("feature_mean"),
        feature_std=values("feature_std"),
        candidates=grid,
        nonlinearity=config.nonlinearity,
    )
    channels = ChannelSelection(layer, results["channel"].values)
    return FwrfModel(config.name, network_of(config), channels, fitted, size, voxels, torch.device("cpu"))


def load_fpf(run: RunFolder, subject: str) -> SubjectModel:
    """Load the readout of one subject of a finished run on a frozen network, and the network.

    Raises
    ------
    MissingDataError
        If there is no such run, or it is not finished.
    RunError
        If it is a run of another kind, or one that does not say which channels its features are.
    SelectionError
        If the run lacks the subject.
    """
    config, voxels = run_settings(run, FpfPipeline), voxels_of(run, subject)
    state = load_tensors(run.url("model.safetensors"))
    channels = [state[name] for name in sorted(state) if name.startswith("channels.")]
    if not channels:
        raise RunError(_NO_CHANNELS.format(run.path))
    encoder, readout = FrozenEncoder(fpf_network(config), channels), load_readouts(state)[subject]
    return SubjectModel((TrunkReadout(config.name, encoder, readout, np.arange(voxels.sizes["voxel"])),), voxels)


@dataclass(frozen=True)
class PredictorKind:
    """Functions and memory with which runs of one kind predict."""

    load: Callable[[RunFolder, str], Predictor]
    memory: int
    """Bytes of the network and of the maps of a batch of 100 images."""


#: Bytes of the maps of the Gabor pyramid for a batch of 100 images, and their copies: more than AlexNet needs.
GABOR_BYTES = 5 << 28

GNET = PredictorKind(load_subject_model, 0)
FPF = PredictorKind(load_fpf, NETWORKS["alexnet"].memory)
FWRF = PredictorKind(load_fwrf, GABOR_BYTES)


def predictor_kind(run: RunFolder) -> PredictorKind:
    """Return the record of how a run predicts.

    Raises
    ------
    MissingDataError
        If there is no such run.
    RunError
        If it is a run of a kind that predicts no images.
    """
    kind = recorded_pipeline(run).kind
    if (predictor := KINDS[kind].predictor) is None:
        able = [name for name, one in KINDS.items() if one.predictor_at is not None]
        raise RunError(f"{run.path} is a run of kind {kind}; one of kind {' or '.join(able)} is needed")
    return predictor


def load_predictor(run: RunFolder, subject: str) -> Predictor:
    """Load the predictor of one subject of a finished run.

    Raises
    ------
    MissingDataError
        If there is no such run, or it is not finished.
    RunError
        If it is a run of a kind that predicts nothing.
    SelectionError
        If the run lacks the subject.
    """
    predictor = predictor_kind(run)
    if not run.finished:
        raise MissingDataError(f"{run.path}: no finished run; do nsdflow run first")
    return predictor.load(run, subject)
