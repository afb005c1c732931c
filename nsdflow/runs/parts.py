"""Parts of a run: results of parallel tasks, joined into the results of the run by the last task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nsdflow.engine.plan import task
from nsdflow.io.folders import exists, remove
from nsdflow.io.tensors import load_tensors, save_tensors
from nsdflow.runs import open_run, write_results
from nsdflow.store import open_store
from nsdflow.store.voxels import positions_of

if TYPE_CHECKING:
    import torch

    from nsdflow.store import Store

__all__ = ["PublishPartsJob", "join_parts", "load_parts", "open_parts", "publish_parts", "remove_parts", "write_part"]


def write_part(
    folder: str, part: str, results: Mapping[str, xr.Dataset], state: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write the labelled results of one part and, if it has one, its model."""
    path = _part(folder, part)
    if state is not None:
        save_tensors(f"{path}/model.safetensors", state)
    write_results(path, xr.DataTree.from_dict(dict(results)))


def open_parts(folder: str, parts: Sequence[str]) -> dict[str, xr.DataTree]:
    """Results of all parts by name."""
    return {part: open_run(_part(folder, part)) for part in parts}


def remove_parts(folder: str) -> None:
    """Remove parts, checkpoints and features, which are not needed after publication."""
    for name in ("parts", "checkpoint", "features"):
        remove(f"{folder}/{name}")


@dataclass(frozen=True)
class PublishPartsJob:
    """Job of the last task of a run."""

    folder: str
    """Folder of the run."""
    store: str
    """Path or URL of the store."""
    parts: tuple[str, ...]
    """Names of the parts to join."""


@task("runs.publish", version=1)
def publish_parts(job: PublishPartsJob) -> dict[str, Any]:
    """Join the voxels of all parts in the order of the store; write ``model.safetensors``, then ``results.zarr``."""
    return join_parts(job)


def join_parts(job: PublishPartsJob, beside: Mapping[str, xr.Dataset] | None = None) -> dict[str, Any]:
    """Publish the parts of a run, and further groups ``beside`` those of the parts."""
    folder, store, parts = job.folder, job.store, job.parts
    opened = open_store(store)
    trees = open_parts(folder, parts)
    groups = dict.fromkeys(group for tree in trees.values() for group in tree.children)
    joined = {}
    for group in groups:
        having = {part: tree for part, tree in trees.items() if group in tree.children}
        joined[group] = join_history(having, group) if group == "history" else join_voxels(opened, group, having)
    if state := load_parts(folder, parts):
        save_tensors(f"{folder}/model.safetensors", state)
    write_results(folder, xr.DataTree.from_dict({**joined, **(beside or {})}))
    return {"subjects": [group for group in joined if group != "history"]}


def load_parts(folder: str, parts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Tensors of all parts that have a model. Where there are several parts, a name begins with that of its part."""
    models = {part: f"{_part(folder, part)}/model.safetensors" for part in parts}
    return {
        name if len(parts) == 1 else f"{part}.{name}": tensor
        for part, path in models.items()
        if exists(path)
        for name, tensor in load_tensors(path).items()
    }


def join_voxels(store: Store, subject: str, trees: Mapping[str, xr.DataTree]) -> xr.Dataset:
    """Voxels of one subject from all parts, in the order of the store, with a coordinate ``part``."""
    datasets = [tree[subject].to_dataset().load() for tree in trees.values()]
    if len(datasets) == 1:
        return datasets[0]
    labelled = [
        dataset.assign_coords(part=("voxel", np.full(dataset.sizes["voxel"], part)))
        for part, dataset in zip(trees, datasets, strict=True)
    ]
    whole = _concat_voxels(labelled)
    positions = positions_of(whole["flat_index"].values, store.voxels(subject)["flat_index"].values, subject)
    return whole.isel(voxel=np.argsort(positions))


def join_blocks(folder: str, subject: str, parts: Sequence[str]) -> xr.Dataset:
    """Voxels of one subject from parts that hold consecutive blocks of them."""
    datasets = [tree[subject].to_dataset().load() for tree in open_parts(folder, parts).values()]
    return datasets[0] if len(datasets) == 1 else _concat_voxels(datasets)


def _concat_voxels(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    return xr.concat(
        datasets, dim="voxel", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    )


def join_history(trees: Mapping[str, xr.DataTree], group: str) -> xr.Dataset:
    """Histories of all parts along a new dimension ``part``; a single part keeps its own dimensions."""
    datasets = [tree[group].to_dataset().load() for tree in trees.values()]
    if len(datasets) == 1:
        return datasets[0]
    return xr.concat(datasets, dim=xr.Variable("part", list(trees)), combine_attrs="drop_conflicts")


def _part(folder: str, part: str) -> str:
    return f"{folder}/parts/{part}"
