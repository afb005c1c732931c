"""The last task of a ridge run: the best layer of each voxel, its coefficients, and the results."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from nsdflow.engine.plan import task
from nsdflow.pipelines.features.source import open_features
from nsdflow.pipelines.ridge.coefficients import LinearModel, TermPlace, keep_model, open_rows_of, open_term
from nsdflow.pipelines.ridge.data import coordinates_of_voxels
from nsdflow.pipelines.ridge.matrix import read_matrix
from nsdflow.pipelines.ridge.settings import RidgePipeline  # a field of jobs
from nsdflow.runs import write_results
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import join_blocks
from nsdflow.store import Store, open_store

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PublishRidgeJob", "best_of_layers", "linear_model", "part_name", "publish_ridge", "safe_name"]


@dataclass(frozen=True)
class PublishRidgeJob:
    """The results of all blocks."""

    pipeline: RidgePipeline
    store: str
    folder: str
    subjects: tuple[str, ...]
    layers: tuple[str, ...]
    voxels: tuple[int, ...]
    """Voxels of each subject."""
    model: bool
    """Whether to keep the weights of the best layers in ``model.safetensors``."""


@task("ridge.publish", version=3)
def publish_ridge(job: PublishRidgeJob) -> dict[str, Any]:
    """Join blocks and layers, choose each voxel's best layer by holdout loss, keep its coefficients, and publish."""
    config, folder, opened = job.pipeline, RunFolder(job.folder), open_store(job.store)
    groups = {}
    for subject, count in zip(job.subjects, job.voxels, strict=True):
        starts = range(0, count, config.voxels_per_task)
        layers = []
        for layer in job.layers:
            layers.append(join_blocks(job.folder, subject, [part_name(subject, layer, start) for start in starts]))
        best = best_of_layers(layers, job.layers, config.problem().lambdas)
        groups[subject] = best.assign_coords(coordinates_of_voxels(config, opened, subject).coords)
        for number, layer in enumerate(job.layers):
            for start, voxels in _columns(config, groups[subject], layer).items():
                matrix = read_matrix(f"{job.folder}/parts/coefficients/{part_name(subject, layer, start)}")
                if len(voxels):
                    TermPlace(job.folder, subject, number).keep(start, matrix[:, voxels - start])
    if job.model and (rows := open_rows_of(config.features, folder)) is not None:
        models = {
            subject: linear_model(config, folder, subject, results, opened) for subject, results in groups.items()
        }
        keep_model(folder, {config.features: rows}, [(config.features, layer) for layer in job.layers], models)
        folder.add_to_record(network=folder.sibling(config.features).record().get("network"))
    write_results(job.folder, xr.DataTree.from_dict(groups))
    return {"subjects": list(job.subjects)}


def linear_model(
    config: RidgePipeline, folder: RunFolder, subject: str, results: xr.Dataset, store: Store | None
) -> LinearModel:
    """The coefficients of a run for one subject, with the features that they multiply."""
    rows, terms, layers = open_rows_of(config.features, folder), [], results["layer"].values.tolist()
    tables = open_features(config.features, folder, layers, store=store)
    for number, layer in enumerate(layers):
        place = TermPlace(folder.path, subject, number)
        terms.append(open_term(place, tables[layer], _columns(config, results, layer)))
    bias = torch.from_numpy(results["bias"].values)
    sources = tuple((rows, layer) for layer in layers)
    return LinearModel(config.name, tuple(terms), sources, bias, results[[]])


def _columns(config: RidgePipeline, results: xr.Dataset, layer: str) -> dict[int, Tensor]:
    """Voxels whose best layer is ``layer``, by the first voxel of their block."""
    best = torch.from_numpy(results["best_layer"].values == layer).nonzero()[:, 0]
    step = config.voxels_per_task
    return {start: best[(best >= start) & (best < start + step)] for start in range(0, results.sizes["voxel"], step)}


def best_of_layers(results: list[xr.Dataset], layers: tuple[str, ...], lambdas: tuple[float, ...]) -> xr.Dataset:
    """Results of each voxel's best layer, chosen by holdout loss, and scores of all layers.

    Variables by voxel are those of the best layer. ``layer_accuracy``, ``layer_lambda`` and ``layer_holdout_loss``
    (layer, voxel) have the values of all layers.
    """
    loss = np.stack([one["holdout_loss"].values for one in results])  # (layer, voxel)
    best = np.nanargmin(np.nan_to_num(loss, nan=np.inf), axis=0)
    chosen = {}
    for name, variable in results[0].data_vars.items():
        values = np.stack([one[name].values for one in results])
        picked = np.take_along_axis(values, best.reshape(1, *([1] * (values.ndim - 2)), -1), axis=0)[0]
        chosen[name] = xr.DataArray(picked, dims=variable.dims, attrs=variable.attrs)
    for name in ("accuracy", "lambda", "holdout_loss"):
        values = np.stack([one[name].values for one in results])
        chosen[f"layer_{name}"] = xr.DataArray(values, dims=("layer", "voxel"), attrs=results[0][name].attrs)
    coords = {
        **results[0].coords,
        "layer": ("layer", np.asarray(layers)),
        "best_layer": ("voxel", np.asarray(layers)[best]),
    }
    attrs = {**results[0].attrs, "lambdas": list(lambdas)}
    return xr.Dataset(chosen).assign_coords(coords).assign_attrs(attrs)


def part_name(subject: str, layer: str, start: int) -> str:
    """Name of the part of one block of voxels."""
    return f"{subject}-{safe_name(layer)}-{start:06d}"


def safe_name(layer: str) -> str:
    """A layer's name as part of a file name; two layers never share one."""
    plain = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in layer)
    return plain if plain == layer else f"{plain}-{zlib.crc32(layer.encode()):08x}"
