"""Cross-ROI transfer: new readouts for all voxels on the frozen trunk of each ROI, and the asymmetry between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from nsdflow.analysis import transfer_asymmetry, transfer_matrices
from nsdflow.config.pipeline import TrainedPipeline
from nsdflow.engine.compute import torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, task
from nsdflow.models.gnet import layer_slices, level_shapes
from nsdflow.names import select_subjects
from nsdflow.pipelines.gnet.results import group_results
from nsdflow.pipelines.gnet.saved import load_gnet
from nsdflow.pipelines.gnet.training import initial_readouts, load_training_data, report_activity, run_training
from nsdflow.runs import open_run, write_results
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import open_parts, write_part
from nsdflow.store import open_store
from nsdflow.store.voxels import positions_of

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
    queries = [opened.explain(subject, **pipeline.selection()) for subject in subjects]
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
    publish = Task(
        key="publish",
        function=publish_transfer,
        job=TransferPublication(folder.path, trunks.path, pipeline.trunk_rois),
        stage="publish",
        after=tuple(task.key for task in fits),
        memory=Memory.with_torch(),
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


@task("transfer.fit", version=1)
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
    write_part(job.folder, job.trunk, results)
    return {"best_epoch": result.best_epoch, "best_score": result.best_score}


@dataclass(frozen=True)
class TransferPublication:
    """Publication of a transfer run."""

    folder: str
    trunks: str
    """Folder of the run that trained the trunks."""
    parts: tuple[str, ...]
    """ROI groups of the trunks."""


@task("transfer.publish", version=1)
def publish_transfer(job: TransferPublication) -> dict[str, Any]:
    """Publish ``transfer_accuracy`` (model, voxel) by subject, accuracy of the ROI's own model, and ``/transfer``."""
    own = open_run(job.trunks)
    trees = open_parts(job.folder, job.parts)
    model = xr.Variable("model", list(job.parts))
    subjects: dict[str, xr.Dataset] = {}
    for subject in (name for name in next(iter(trees.values())).children if name != "history"):
        datasets = [tree[subject].to_dataset() for tree in trees.values()]
        accuracies = xr.concat([dataset["accuracy"] for dataset in datasets], dim=model, combine_attrs="override")
        kept = [name for name in ("accuracy", "noise_ceiling") if name in own[subject]]
        baseline = own[subject].to_dataset()[kept].load()
        subjects[subject] = _same_voxels(subject, baseline, accuracies).assign_attrs(datasets[0].attrs)
    matrix = transfer_matrices(subjects, areas=job.parts)
    history = xr.concat(
        [tree["history"].to_dataset() for tree in trees.values()], dim=model, combine_attrs="drop_conflicts"
    )
    transfer = transfer_asymmetry(matrix).assign(transfer=matrix)
    write_results(job.folder, xr.DataTree.from_dict({**subjects, "transfer": transfer, "history": history}))
    overall = transfer.sel(subject="all")
    return {"alpha": float(overall["alpha"]), "alpha_error": float(overall["alpha_error"])}


def _same_voxels(subject: str, own: xr.Dataset, transferred: xr.DataArray) -> xr.Dataset:
    """Accuracies on the other trunks and on the own trunk, for the same voxels."""
    rows = positions_of(own["flat_index"].values, transferred["flat_index"].values, subject)
    return own.assign(transfer_accuracy=(("model", "voxel"), transferred.values[:, rows])).assign_coords(
        model=transferred["model"].values
    )
