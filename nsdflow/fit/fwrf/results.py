"""A fitted fwRF model, and its predictions of any images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nsdflow.fit.fwrf.candidates import chosen_features
from nsdflow.fit.fwrf.features import CandidateFeatures, MapFeatures, Nonlinearity, transformed
from nsdflow.fit.precision import arithmetic
from nsdflow.models.networks.levels import ChannelSelection, Levels
from nsdflow.models.pooling import CANDIDATE_TILE

__all__ = ["FwrfResult", "Maps", "features_of", "predict"]


@dataclass(frozen=True)
class FwrfResult:
    """A fitted model, on the CPU.

    Parameters
    ----------
    rf : torch.Tensor
        (voxel, 3) x, y and sigma of the pooling field.
    lambda_ : torch.Tensor
        (voxel,) float64, selected lambda.
    lambda_index, candidate : torch.Tensor
        (voxel,) int64, indices of the selected lambda and of the selected candidate in the grid.
    holdout_loss : torch.Tensor
        (voxel,) float32, squared error summed over the holdout trials.
    weights : torch.Tensor
        (voxel, feature) float32, ridge weights.
    bias : torch.Tensor
        (voxel,) float32, 0 in a model without bias.
    feature_mean, feature_std : torch.Tensor
        (voxel, feature) float32, mean and divisor of z-scoring, 0 and 1 without z-scoring.
    candidates : numpy.ndarray, optional
        (candidate, 3) the grid. :func:`predict` needs it to pool feature maps.
    channels : ChannelSelection, optional
        Origin of the features, where the fit knew it. :func:`predict` refuses features of other channels.
    nonlinearity : {"none", "log"} or callable
        Nonlinearity of the fit.
    """

    rf: Tensor
    lambda_: Tensor
    lambda_index: Tensor
    candidate: Tensor
    holdout_loss: Tensor
    weights: Tensor
    bias: Tensor
    feature_mean: Tensor
    feature_std: Tensor
    candidates: NDArray[np.floating] | None = None
    channels: ChannelSelection | None = None
    nonlinearity: Nonlinearity = "none"

    def arrays(self) -> dict[str, tuple[tuple[str, ...], NDArray[np.float32]]]:
        """Dimensions and float32 values by name, as a run holds them: ``xarray.Dataset(result.arrays())``."""
        by_feature = ("voxel", "feature")
        named: dict[str, tuple[tuple[str, ...], Tensor]] = {
            "rf": (("voxel", "parameter"), self.rf),
            "lambda": (("voxel",), self.lambda_),
            "holdout_loss": (("voxel",), self.holdout_loss),
            "weights": (by_feature, self.weights),
            "bias": (("voxel",), self.bias),
            "feature_mean": (by_feature, self.feature_mean),
            "feature_std": (by_feature, self.feature_std),
        }
        return {name: (dims, values.cpu().numpy().astype(np.float32)) for name, (dims, values) in named.items()}


#: What a fit and a prediction take: levels, their maps alone, or a source of pooled features.
Maps: TypeAlias = Levels | Sequence["Tensor | NDArray[np.floating]"] | CandidateFeatures


def predict(
    result: FwrfResult,
    maps: Maps,
    *,
    images: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Predict responses to images.

    Parameters
    ----------
    result : FwrfResult
        A fitted model.
    maps : Levels, sequence of torch.Tensor or numpy.ndarray, or CandidateFeatures
        Features of any images, from the same channels as those of the fit.
    images : torch.Tensor, optional
        (row,) int64, rows of the images in ``maps``. Default: all images.

    Returns
    -------
    torch.Tensor
        (row, voxel) float32 predictions on the CPU.

    Raises
    ------
    ValueError
        The features are not those of the fit: other channels, another number of them, or another grid.
    """
    device = torch.device(device)
    features = features_of(maps, result.candidates)
    _check_channels(result, features)
    if not np.array_equal(features.candidates[result.candidate.numpy()], result.rf.numpy()):
        raise ValueError("the features' grid of candidates is not the one of the fit; give both the same")
    rows = torch.arange(features.images) if images is None else images
    predictions = torch.empty(len(rows), len(result.rf))
    with torch.no_grad(), arithmetic("float32", device):
        for index, pooled in chosen_features(features, result.candidate, CANDIDATE_TILE, rows, device):
            voxels = (result.candidate == index).nonzero()[:, 0]
            # all voxels of a candidate share its mean and std
            mean, std = (values[voxels[0]].to(device) for values in (result.feature_mean, result.feature_std))
            values = (transformed(pooled, result.nonlinearity) - mean) / std
            weights, bias = result.weights[voxels].to(device), result.bias[voxels].to(device)
            predictions[:, voxels] = torch.addmm(bias, values, weights.T).cpu()
    return predictions


def features_of(maps: Maps, candidates: NDArray[np.floating] | None) -> CandidateFeatures:
    """The source of features that a caller gave, or the maps with their grid of candidates."""
    if not isinstance(maps, Levels | Sequence):
        return maps
    if candidates is None:
        raise ValueError("feature maps need a grid of candidates; make one with candidate_grid")
    return (
        MapFeatures(maps.maps, candidates, maps.channels) if isinstance(maps, Levels) else MapFeatures(maps, candidates)
    )


def _check_channels(result: FwrfResult, features: CandidateFeatures) -> None:
    fitted, given = result.channels, features.channels
    differ = fitted is not None and given is not None and not fitted.same_as(given)
    if differ or features.features != result.weights.shape[1]:
        raise ValueError(
            f"these {features.features} features are not the {result.weights.shape[1]} channels of the fit; "
            "extract them with extract_levels(network, images, channels=levels.channels) of the training levels"
        )
