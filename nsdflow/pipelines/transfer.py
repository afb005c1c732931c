"""Cross-ROI transfer: new readouts for all voxels on the frozen trunk of each ROI, and the asymmetry between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import xarray as xr

from nsdflow.analysis import transfer_asymmetry, transfer_matrices
from nsdflow.engine.compute import torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.io.tensors import save_tensors
from nsdflow.models.gnet import layer_slices, level_shapes
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import query_of
from nsdflow.pipelines.gnet.results import group_results, model_state, readout_bytes
from nsdflow.pipelines.gnet.saved import load_gnet
from nsdflow.pipelines.gnet.settings import TrainedPipeline
from nsdflow.pipelines.gnet.training import initial_readouts, load_training_data, report_activity, run_training
from nsdflow.runs import open_run, write_results
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import load_parts, open_parts, write_part
from nsdflow.store import open_store
from nsdflow.store.voxels import positions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "TransferJob",
    "TransferPipeline",
    "TransferPublication",
    "fit_on_trunk",
    "plan_transfer",
    "publish_transfer",
]


class TransferPipeline(TrainedPipeline):
    """New readouts for all voxels on the frozen trunk of each ROI of a GNet8r run."""

    kind: Literal["transfer"] = "transfer"
    trunks: str = "gnet8r"
    """The run that trained the trunks: its name among the runs, or a path."""
    trunk_rois: tuple[str, ...] = ("V1", "V2", "V3", "hV4")
    """Trunks, from the lowest area of the supposed hierarchy to the highest."""
    frozen_trunk: Literal["train", "eval"] = "train"
    """Mode of the trunk: ``train`` as published (dropout, batch statistics), or ``eval`` (neither)."""

    def earlier_runs(self) -> tuple[str, ...]:
        return (self.trunks,)


def plan_transfer(pipeline: TransferPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan one GPU task per trunk, and one that joins the accuracies."""
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    queries = [opened.explain(subject, **query_of(pipeline, opened, subject)) for subject in subjects]
    images = int(np.prod(opened.images().shape))
    trunks = folder.sibling(pipeline.trunks)
    fits = tuple(
        Task(
            key=f"fit-{trunk}",
            function=fit_on_trunk,
            job=TransferJob(pipeline, store, folder.path, trunks.path, trunk),
            stage="fit readouts",
            pool="gpu",
            memory=Memory.with_torch(images=images, responses=3 * sum(query.result_bytes for query in queries)),
            reads=images + sum(query.bytes for query in queries),
        )
        for trunk in pipeline.trunk_rois
    )
    publish = publication(
        publish_transfer,
        TransferPublication(folder.path, trunks.path, pipeline.trunk_rois),
        fits,
        memory=Memory.with_torch(readouts=len(fits) * sum(readout_bytes(query.shape[1]) for query in queries)),
    )
    note = f"on the trunks of {trunks.path}, in {pipeline.frozen_trunk} mode"
    return Plan(f"{pipeline.name}: transfer", folder.path, (*fits, publish), notes=(note,))


@dataclass(frozen=True)
class TransferJob:
    """Readouts of all voxels on one trunk."""

    pipeline: TransferPipeline
    store: str
    folder: str
    trunks: str
    """Folder of the run that trained the trunks."""
    trunk: str
    """ROI group of the trunk."""


@task("transfer.fit", version=3)
def fit_on_trunk(job: TransferJob) -> dict[str, Any]:
    """Fit readouts of all voxels on the trunk that one ROI trained; the trunk takes no optimizer step."""
    config = job.pipeline
    saved = load_gnet(RunFolder(job.trunks), job.trunk)
    report_activity(config, job.trunk, "reading data")
    data = load_training_data(config, open_store(job.store))
    with torch_threads(config.threads, share=len(config.trunk_rois)):
        readouts = initial_readouts(config, data, job.trunk, level_shapes(saved.encoder, data.images))
        result = run_training(
            config, data, saved.encoder, readouts, folder=job.folder, part=job.trunk,
            train_encoder=False, frozen_encoder=config.frozen_trunk,
        )  # fmt: skip
        results = group_results(config, data, result, layer_slices(saved.config.width))
    write_part(job.folder, job.trunk, results, model_state(result))
    return {"best_epoch": result.best_epoch, "best_score": result.best_score}


@dataclass(frozen=True)
class TransferPublication:
    """Publication of a transfer run."""

    folder: str
    trunks: str
    """Folder of the run that trained the trunks."""
    parts: tuple[str, ...]
    """ROI groups of the trunks."""


@task("transfer.publish", version=2)
def publish_transfer(job: TransferPublication) -> dict[str, Any]:
    """Publish the accuracies on each trunk by subject, those of the ROI's own model, ``/transfer`` and the networks.

    ``transfer_accuracy`` is (model, voxel), ``transfer_holdout_accuracy_history`` (model, epoch, voxel).
    ``model.safetensors`` holds trunks with drifted statistics and readouts, of the best and of the last epoch, under
    the name of the trunk.
    """
    own = open_run(job.trunks)
    trees = open_parts(job.folder, job.parts)
    model = xr.Variable("model", list(job.parts))
    state = load_parts(job.folder, job.parts)
    subjects: dict[str, xr.Dataset] = {}
    for subject in (name for name in next(iter(trees.values())).children if name != "history"):
        datasets = [tree[subject].to_dataset() for tree in trees.values()]
        kept = [name for name in ("accuracy", "noise_ceiling") if name in own[subject]]
        baseline = own[subject].to_dataset()[kept].load()
        index = datasets[0]["flat_index"].values
        rows = positions_of(baseline["flat_index"].values, index, subject)
        subjects[subject] = _same_voxels(baseline, datasets, model, rows).assign_attrs(datasets[0].attrs)
        _reorder_readouts(state, subject, rows)
    matrix = transfer_matrices(subjects, areas=job.parts)
    history = xr.concat(
        [tree["history"].to_dataset() for tree in trees.values()], dim=model, combine_attrs="drop_conflicts"
    )
    transfer = transfer_asymmetry(matrix).assign(transfer=matrix)
    if state:
        save_tensors(f"{job.folder}/model.safetensors", state)
    write_results(job.folder, xr.DataTree.from_dict({**subjects, "transfer": transfer, "history": history}))
    overall = transfer.sel(subject="all")
    return {"alpha": float(overall["alpha"]), "alpha_error": float(overall["alpha_error"])}


def _same_voxels(
    own: xr.Dataset, datasets: Sequence[xr.Dataset], model: xr.Variable, rows: NDArray[np.intp]
) -> xr.Dataset:
    """Stored accuracies of the readouts on each trunk, and on the voxels' own trunk."""
    transferred = own.assign_coords(model=model)
    for name in ("accuracy", "holdout_accuracy", "holdout_accuracy_history"):
        if all(name in dataset for dataset in datasets):
            values = np.stack([dataset[name].values for dataset in datasets])[..., rows]
            transferred[f"transfer_{name}"] = (("model", *datasets[0][name].dims), values)
    if "transfer_holdout_accuracy_history" in transferred:
        transferred = transferred.assign_coords(epoch=datasets[0]["epoch"].values)
    return transferred


def _reorder_readouts(state: dict[str, Tensor], subject: str, rows: NDArray[np.intp]) -> None:
    """Put the readouts of a subject in the order of its results."""
    for name in state:
        if f".readouts.{subject}." in f".{name}":
            state[name] = state[name][torch.from_numpy(rows)].contiguous()
