"""Parts of a run: results of parallel tasks, joined into the results of the run by the last task.

The labelled arrays of a part are one ``.npz`` file, since a hierarchy of Zarr has two files per variable and takes a
hundred times as long to write. Nobody queries a part: its run reads it once, whole.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from zipfile import ZIP_STORED, BadZipFile

import numpy as np
import xarray as xr

from nsdflow.engine.plan import task
from nsdflow.errors import RunError
from nsdflow.io.folders import exists, remove, remove_leftovers
from nsdflow.io.read import read_bytes
from nsdflow.io.tensors import RUN_AGAIN, load_tensors, save_tensors
from nsdflow.io.write import atomic_file
from nsdflow.runs.results import write_results
from nsdflow.store import open_store
from nsdflow.store.voxels import positions_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from nsdflow.store import Store

__all__ = ["PublishPartsJob", "join_parts", "load_parts", "open_parts", "publish_parts", "remove_parts", "write_part"]

#: Member of a part's file with the groups, dimensions and attributes of all arrays, as JSON.
LAYOUT: Final = "layout"


def write_part(
    folder: str, part: str, results: Mapping[str, xr.Dataset], state: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write the labelled results of one part and, if it has one, its model."""
    path = _part(folder, part)
    if state is not None:
        save_tensors(f"{path}/model.safetensors", state)
    layout: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for group, dataset in results.items():
        named = {str(name): variable for name, variable in dataset.variables.items()}
        labels = {name: [variable.dims, variable.attrs] for name, variable in named.items()}
        layout[group] = {"attrs": dataset.attrs, "coords": list(dataset.coords), "variables": labels}
        arrays |= {f"{group}/{name}": _plain(variable.values) for name, variable in named.items()}
    with atomic_file(_arrays(path)) as file:
        text = json.dumps(layout, default=lambda value: value.tolist())  # NumPy's scalars and arrays
        np.savez(file, allow_pickle=False, **{LAYOUT: np.array(text)}, **arrays)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Values in C order, since the bits of a sum depend on the order in memory; texts that are objects as texts."""
    is_text = values.dtype.kind == "O" and all(isinstance(value, str) for value in values.flat)
    return values.astype(np.str_) if is_text else np.asarray(values, order="C")


def open_parts(folder: str, parts: Sequence[str]) -> dict[str, xr.DataTree]:
    """Results of all parts by name, in memory.

    Raises
    ------
    RunError
        A part is damaged; the checksum of each array is compared.
    """
    return {part: _read_part(_arrays(_part(folder, part))) for part in parts}


def _read_part(url: str) -> xr.DataTree:
    try:
        with np.load(io.BytesIO(read_bytes(url)), allow_pickle=False) as file:
            if any(member.compress_type != ZIP_STORED for member in file.zip.infolist()):
                raise ValueError("compressed, so that its size is not bounded")
            groups = {}
            for group, said in json.loads(str(file[LAYOUT])).items():
                variables = {
                    name: xr.Variable(dims, file[f"{group}/{name}"], attrs)
                    for name, (dims, attrs) in said["variables"].items()
                }
                groups[group] = xr.Dataset(variables, attrs=said["attrs"]).set_coords(said["coords"])
    except (BadZipFile, ValueError, TypeError, LookupError, AttributeError, EOFError, MemoryError) as error:
        raise RunError(f"{url}: damaged ({error}); {RUN_AGAIN}") from None
    return xr.DataTree.from_dict(groups)


def remove_parts(folder: str) -> None:
    """Remove parts, checkpoints and features, which published results replace, and files that killed processes left."""
    for name in ("parts", "checkpoint", "features"):
        remove(f"{folder}/{name}")
    remove_leftovers(folder)


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


def _arrays(part: str) -> str:
    return f"{part}/results.npz"
