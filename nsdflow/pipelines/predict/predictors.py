"""Predictors of images from finished runs: one record per kind of run that can predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from nsdflow.errors import MissingDataError, RunError
from nsdflow.fit.fwrf import FwrfResult, predict
from nsdflow.io.tensors import load_tensors
from nsdflow.models.gnet import FrozenEncoder
from nsdflow.models.networks import NETWORKS
from nsdflow.models.networks.levels import ChannelSelection
from nsdflow.pipelines.banded.settings import BandedRidgePipeline
from nsdflow.pipelines.banded.tasks import banded_model
from nsdflow.pipelines.common.earlier import recorded_pipeline, run_settings, voxels_of
from nsdflow.pipelines.common.networks import network_of
from nsdflow.pipelines.features.settings import ANNOTATION_FEATURES
from nsdflow.pipelines.fpf import FpfPipeline
from nsdflow.pipelines.fwrf.features import candidate_numbers, candidates_of, layer_names
from nsdflow.pipelines.fwrf.settings import FwrfPipeline
from nsdflow.pipelines.gnet.saved import SubjectModel, TrunkReadout, load_readouts, load_subject_model
from nsdflow.pipelines.kinds import KINDS
from nsdflow.pipelines.predict.record import PredictorKind
from nsdflow.pipelines.ridge.publish import linear_model
from nsdflow.pipelines.ridge.settings import RidgePipeline
from nsdflow.runs import open_run
from nsdflow.runs.identity import open_recorded_store

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from nsdflow.pipelines.predict.record import Predictor
    from nsdflow.pipelines.ridge.coefficients import LinearModel
    from nsdflow.runs.folder import RunFolder
    from nsdflow.store import Store

__all__ = [
    "FwrfModel",
    "load_predictor",
    "predictor_kind",
]


_NO_CHANNELS: Final = "{}: made by an older nsdflow, and does not say which channels it reads; run it again"


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
    def predict(
        self, images: Tensor, *, batch_size: int, nsd_id: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        whole = np.empty((len(images), len(self.result.rf)), np.float32)
        for start in range(0, len(images), batch_size):
            maps = self.channels.of(self.network(images[start : start + batch_size].to(self.device)))
            whole[start : start + batch_size] = predict(self.result, maps, device=self.device).numpy()
        return whole


def _fwrf_model(run: RunFolder, subject: str) -> FwrfModel:
    """The fitted fields and weights of one subject, and their network."""
    config, voxels = run_settings(run, FwrfPipeline), voxels_of(run, subject)
    results = open_run(run.path)[subject].to_dataset().load()
    if "channel" not in results.coords:
        raise RunError(_NO_CHANNELS.format(run.path))
    size, grid = int(results.attrs["image_size"]), candidates_of(config)
    candidate, names = candidate_numbers(config, results), layer_names(config)
    layer = np.array([names.index(name) for name in results["layer"].values.tolist()])

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


def _fpf_model(run: RunFolder, subject: str) -> SubjectModel:
    """The readout of one subject on a frozen network, and the network."""
    config, voxels = run_settings(run, FpfPipeline), voxels_of(run, subject)
    state = load_tensors(run.url("model.safetensors"))
    channels = [state[name] for name in sorted(state) if name.startswith("channels.")]
    if not channels:
        raise RunError(_NO_CHANNELS.format(run.path))
    encoder, readout = FrozenEncoder(network_of(config, config.layers), channels), load_readouts(state)[subject]
    return SubjectModel((TrunkReadout(config.name, encoder, readout, np.arange(voxels.sizes["voxel"])),), voxels)


def _ridge_model(run: RunFolder, subject: str) -> LinearModel:
    """The coefficients of one subject, with the networks of its features."""
    config, voxels = run_settings(run, RidgePipeline), voxels_of(run, subject)
    _has_coefficients(run)
    results = open_run(run.path)[subject].to_dataset().load()
    return replace(linear_model(config, run, subject, results, _annotated(run, config.features)), voxels=voxels)


def _banded_model(run: RunFolder, subject: str) -> LinearModel:
    """The coefficients of one subject, with the networks of all bands."""
    config, voxels = run_settings(run, BandedRidgePipeline), voxels_of(run, subject)
    _has_coefficients(run)
    results = open_run(run.path)[subject].to_dataset().load()
    store = _annotated(run, *(band.features for band in config.bands.values()))
    return replace(banded_model(config, run, subject, results, store), voxels=voxels)


def _annotated(run: RunFolder, *features: str) -> Store | None:
    """The store of a run if its annotations are features."""
    return open_recorded_store(run.record(), run.path) if ANNOTATION_FEATURES in features else None


def _has_coefficients(run: RunFolder) -> None:
    if not run.exists("coefficients"):
        raise RunError(f"{run.path}: made by an older nsdflow, and keeps no coefficients; run it again")


#: Bytes of the maps of the Gabor pyramid for a batch of 100 images, and their copies: more than AlexNet needs.
GABOR_BYTES = 5 << 28
#: Bytes of a network, blocks of features of the training images, and a block of coefficients.
LINEAR_BYTES = 3 << 30

GNET = PredictorKind(load_subject_model, 0)
FPF = PredictorKind(_fpf_model, NETWORKS["alexnet"].memory)
FWRF = PredictorKind(_fwrf_model, GABOR_BYTES)
RIDGE = PredictorKind(_ridge_model, LINEAR_BYTES)
BANDED = PredictorKind(_banded_model, LINEAR_BYTES)


def predictor_kind(run: RunFolder) -> PredictorKind:
    """Return the record of how a run predicts.

    Raises
    ------
    MissingDataError
        There is no such run.
    RunError
        It is a run of a kind that predicts no images.
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
        There is no such run, or it is not finished.
    RunError
        It is a run of a kind that predicts nothing.
    SelectionError
        The run lacks the subject.
    """
    predictor = predictor_kind(run)
    if not run.finished:
        raise MissingDataError(f"{run.path}: no finished run; do nsdflow run first")
    return predictor.load(run, subject)
