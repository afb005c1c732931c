"""Published AlexNet-fwRF files as runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis import noise_ceiling
from nsdflow.errors import SourceError
from nsdflow.models.networks.levels import ChannelSelection
from nsdflow.models.published_fwrf import PublishedFwrfSubject, load_fwrf_file
from nsdflow.pipelines.adopt.voxels import match_voxels, subject_table
from nsdflow.pipelines.fwrf.features import (
    FeatureSizes,
    candidate_table,
    candidates_of,
    layer_names,
    origin_of,
    sizes_of,
)
from nsdflow.pipelines.fwrf.settings import FwrfPipeline
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import PublishPartsJob, join_parts, write_part
from nsdflow.store import Store

__all__ = ["adopt_fwrf"]

#: Largest distance between equal fields of the file and of the grid.
RADIUS_TOLERANCE = 1e-4


def adopt_fwrf(path: str, store: Store, folder: RunFolder) -> None:
    """Make a run of a published AlexNet-fwRF file.

    Predictions use no nonlinearity, as in the fit. The published program used a logarithm in predictions only.

    Raises
    ------
    SelectionError
        Voxels do not match those of the store.
    SourceError
        Features or fields are not those of AlexNet-fwRF.
    """
    model = load_fwrf_file(path)
    positions = match_voxels(store, model.flat_index, model.volume_shape, path)
    config = FwrfPipeline(
        name=folder.name,
        description=f"adopted from {path.rpartition('/')[2]}",
        subjects=tuple(positions),
        features="alexnet",
        bootstrap=0,
        holdout_fraction=model.holdout_frac,
    )
    size = int(store.images().sizes["x"])
    sizes, grid = sizes_of(config, size), candidates_of(config)
    if [tuple(layers) for layers in model.level_layers] != [tuple(group) for group in sizes.groups]:
        raise SourceError(f"{path}: levels join the layers {model.level_layers}; AlexNet-fwRF joins {sizes.groups}")
    kept = [torch.from_numpy(channels) for channels in model.kept]
    layer = np.concatenate(
        [_layers(sizes, group, channels) for group, channels in zip(sizes.groups, kept, strict=True)]
    )
    origin = origin_of(sizes, kept, layer)
    folder.begin(config, store.url, {path: (path,)})
    for subject, places in positions.items():
        order = np.argsort(places)
        fitted = _results(model.subjects[subject], order, grid, path)
        table, attrs = subject_table(store, subject, places[order])
        accuracy = np.nan_to_num(model.validation_accuracy[subject][order]).astype(np.float32)
        fitted["accuracy"] = ("voxel", accuracy, {"long_name": "accuracy as the file says it"})
        if "ncsnr" in table:
            fitted["noise_ceiling"] = noise_ceiling(table["ncsnr"]).reset_coords(drop=True).astype(np.float32)
        coords: dict[Any, Any] = {
            **table.coords,
            **_feature_coordinates(config, origin),
            "parameter": ["x", "y", "sigma"],
        }
        results = fitted.assign_coords(coords).assign_attrs({**attrs, "image_size": size})
        write_part(folder.path, subject, {subject: results})
    join_parts(PublishPartsJob(folder.path, store.url, tuple(positions)), {"candidates": candidate_table(config)})


def _results(
    fitted: PublishedFwrfSubject, order: NDArray[np.intp], grid: NDArray[np.floating], path: str
) -> xr.Dataset:
    """Arrays of one subject. Fields of the grid replace those of the file, which are rounded."""
    distance = np.abs(fitted.rf[order, None, :] - grid[None]).max(-1)
    nearest = distance.argmin(1)
    if distance.min(1).max() > RADIUS_TOLERANCE:
        raise SourceError(f"{path}: fields that are not in the grid of 2,680 candidates of AlexNet-fwRF")
    unknown = np.full(len(order), np.nan, np.float32)
    feature = ("voxel", "feature")
    return xr.Dataset(
        {
            "rf": (("voxel", "parameter"), grid[nearest].astype(np.float32)),
            "lambda": ("voxel", unknown, {"long_name": "the file does not say it"}),
            "holdout_loss": ("voxel", unknown, {"long_name": "the file does not say it"}),
            "weights": (feature, fitted.weights[order].astype(np.float32)),
            "bias": ("voxel", fitted.bias[order].astype(np.float32)),
            "feature_mean": (feature, fitted.feature_mean[order].astype(np.float32)),
            "feature_std": (feature, fitted.feature_std[order].astype(np.float32)),
        }
    )


def _layers(sizes: FeatureSizes, group: tuple[int, ...], channels: torch.Tensor) -> NDArray[np.int64]:
    """Layer of each kept channel of a level."""
    counts = [sizes.layers[number] for number in group]
    layers: NDArray[np.int64] = np.repeat(np.asarray(group, np.int64), counts)[channels.numpy()]
    return layers


def _feature_coordinates(config: FwrfPipeline, origin: ChannelSelection) -> dict[str, tuple[str, NDArray[np.generic]]]:
    names = np.asarray(layer_names(config))
    return {"layer": ("feature", names[origin.layer]), "channel": ("feature", origin.channel)}
