"""Ridge as tasks: the Gram matrix of each layer once per subject, then voxels in blocks, on any number of workers.

The task of a block of voxels loads the system of its layer, chooses lambdas, solves, and predicts the validation images
from their Gram matrix with the training images. It computes weights only if the settings request them. The choice of a
lambda depends neither on the worker nor on the other voxels of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from nsdflow.engine.compute import choose_device, torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.fit.ridge.inputs import FeatureStatistics, Observations, blocks
from nsdflow.fit.ridge.products import cross_products
from nsdflow.fit.ridge.selection import fold_order
from nsdflow.fit.ridge.solver import choose, choose_form, make_system, solve_voxels
from nsdflow.fit.ridge.system import DualSystem, PrimalSystem
from nsdflow.io.tensors import load_tensors, save_tensors
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import check_voxels, query_of
from nsdflow.pipelines.features.settings import runs_named
from nsdflow.pipelines.features.source import FeatureTable, open_features
from nsdflow.pipelines.ridge.coefficients import MODEL_BYTES, TermPlace
from nsdflow.pipelines.ridge.costs import TaskCosts
from nsdflow.pipelines.ridge.data import TrialSplit, read_block, read_split
from nsdflow.pipelines.ridge.matrix import read_matrix, write_matrix
from nsdflow.pipelines.ridge.publish import PublishRidgeJob, part_name, publish_ridge, safe_name
from nsdflow.pipelines.ridge.settings import RidgePipeline  # a field of jobs
from nsdflow.pipelines.ridge.weights import create_weights, write_weights
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import write_part
from nsdflow.store import Store, open_store

if TYPE_CHECKING:
    from torch import Tensor

    from nsdflow.fit.ridge.system import System

__all__ = [
    "GramJob",
    "SolveJob",
    "form_system",
    "plan_ridge",
    "solve_block",
]


@dataclass(frozen=True)
class GramJob:
    """The system of one layer for one subject."""

    pipeline: RidgePipeline
    store: str
    folder: str
    subject: str
    layer: str
    number: int
    """Number of the layer among those of the run."""
    content: str
    """Of the features: other ones make another system."""


@dataclass(frozen=True)
class SolveJob:
    """One block of voxels of one subject on one layer."""

    pipeline: RidgePipeline
    store: str
    folder: str
    subject: str
    layer: str
    start: int
    content: str


def plan_ridge(pipeline: RidgePipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan one system per subject and layer, one solution per block of voxels, and publication."""
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    tables = open_features(pipeline.features, folder, pipeline.layers, store=opened, check_values=True)
    tasks, counts, images, problem = [], [], [], pipeline.problem()
    pool = "cpu" if pipeline.device == "cpu" else "gpu"
    for subject in subjects:
        query = opened.explain(subject, **query_of(pipeline, opened, subject))
        check_voxels(opened, subject, query.shape[1], pipeline.selection())
        counts.append(query.shape[1])
        design = read_split(pipeline, opened, subject)
        images.append(len(design.images))
        for number, (layer, table) in enumerate(tables.items()):
            table.rows_of(np.unique(design.nsd_id))  # raises if an image has no features
            costs = TaskCosts(design, table, query.shape[1], query.result_bytes)
            cost: dict[str, Any] = {"pool": pool, "smaller": costs.smaller(pipeline)}
            where = (pipeline, store, folder.path, subject, layer)
            key = f"gram-{subject}-{number:03d}"
            reads = 4 * len(np.unique(design.nsd_id)) * table.count
            gram, memory = GramJob(*where, number, table.content), costs.gram(pipeline)
            tasks.append(Task(key, form_system, gram, "gram", memory=memory, reads=reads, **cost))
            for start in range(0, query.shape[1], pipeline.voxels_per_task):
                share = min(pipeline.voxels_per_task, query.shape[1] - start) / query.shape[1]
                tasks.append(
                    Task(
                        f"solve-{subject}-{number:03d}-{start:06d}",
                        solve_block,
                        SolveJob(*where, start, table.content),
                        "solve",
                        after=(key,),
                        memory=costs.solve(pipeline),
                        reads=int(share * query.bytes),
                        **cost,
                    )
                )
    size = 4 * sum(counts) * max(table.count for table in tables.values())
    model = bool(runs_named(pipeline.features)) and (pipeline.weights or size <= MODEL_BYTES)
    job = PublishRidgeJob(pipeline, store, folder.path, subjects, tuple(tables), tuple(counts), model)
    solved = [one for one in tasks if one.stage == "solve"]
    block = min(pipeline.voxels_per_task, max(counts))
    held = sum(table.matrix.held_bytes for table in tables.values())
    published = Memory.with_torch(coefficients=8 * max(images) * block, model=4 * size if model else 0, file=held)
    tasks.append(publication(publish_ridge, job, solved, memory=published))
    forms = {choose_form(count, table.count) for count in images for table in tables.values()}
    note = f"{' and '.join(sorted(forms))} form, {pipeline.lambdas} lambdas by {pipeline.lambda_by}"
    smallest, largest = problem.lambdas[0], problem.lambdas[-1]
    units = f"lambdas {smallest:g} to {largest:g}, in units of squared standardised features"
    return Plan(f"{pipeline.name}: fit and publish", folder.path, tuple(tasks), notes=(note, units))


@task("ridge.gram", version=3)
def form_system(job: GramJob) -> dict[str, Any]:
    """Accumulate the Gram matrix of one layer, or keep its standardised features if there are fewer of them."""
    config, opened = job.pipeline, open_store(job.store)
    design, table, order, observations = _prepared(config, opened, job)
    if config.weights:
        count = opened.explain(job.subject, **config.selection()).shape[1]
        create_weights(job.folder, job.subject, table, count, config.voxels_per_task)
    rows, device = table.rows_of(design.images), choose_device(config.device)
    with torch_threads(config.threads, share=2):
        system, statistics = make_system(rows, order, observations, config.problem(), device)
        place = _place(job)
        others = table.rows_of(design.shown)
        if isinstance(system, DualSystem):
            write_matrix(f"{place}/system", system.S)
            K = cross_products(rows, order, others, statistics, at_once=config.features_at_once, device=device)
            write_matrix(f"{place}/validation", K)
        elif isinstance(system, PrimalSystem):
            write_matrix(f"{place}/system", system.X)
            everything = slice(0, table.count)
            X = statistics.apply(torch.from_numpy(others[:, everything]).clone(), everything)
            write_matrix(f"{place}/validation", X)
    form = "dual" if isinstance(system, DualSystem) else "primal"
    double = system.dtype == torch.float64
    state = {"mean": statistics.mean, "std": statistics.std, "double": torch.tensor(double)}
    save_tensors(f"{place}/statistics.safetensors", state)
    images = design.images[order.numpy()]
    TermPlace(job.folder, job.subject, job.number).keep_statistics(statistics, images, dual=form == "dual")
    return {"form": form, "precision": "float64" if double else "float32", "features": table.count}


@task("ridge.solve", version=5)
def solve_block(job: SolveJob) -> dict[str, Any]:
    """Choose lambdas, solve, and evaluate one block of voxels on one layer."""
    config, opened = job.pipeline, open_store(job.store)
    design, table, order, observations = _prepared(config, opened, job)
    place, problem = _place(job), config.problem()
    block = read_block(config, opened, job.subject, design, slice(job.start, job.start + config.voxels_per_task))
    state = load_tensors(f"{place}/statistics.safetensors")
    form, device = choose_form(len(design.images), table.count), choose_device(config.device)
    with torch_threads(config.threads, share=2):
        matrix = read_matrix(f"{place}/system").to(device)
        dtype = torch.float64 if bool(state["double"]) else torch.float32
        system: System = (
            DualSystem(matrix, intercept=config.intercept)
            if form == "dual"
            else PrimalSystem(matrix, dtype, intercept=config.intercept)
        )
        loss = choose(system, observations, block.Y, problem, design.folds, block.within)
        best = loss.argmin(0)
        lambda_ = torch.tensor(problem.lambdas, dtype=torch.float64)[best]
        coefficients, bias = torch.empty(system.side, block.Y.shape[1]), torch.empty(block.Y.shape[1])
        for voxels, C, nu in solve_voxels(system, observations, block.Y, problem, lambda_):
            coefficients[:, voxels], bias[voxels] = C, nu
        del system
        predictions = read_matrix(f"{place}/validation").float() @ coefficients + bias
        write_matrix(f"{job.folder}/parts/coefficients/{part_name(job.subject, job.layer, job.start)}", coefficients)
        if config.weights:
            statistics = FeatureStatistics(state["mean"], state["std"])
            _write_weights(job, table, design, order, statistics, coefficients)
    held = float(sum(observations.weight[fold].sum() for fold in design.folds) or observations.weight.sum())
    variables = block.evaluate(predictions, design, config)
    values = {"lambda": lambda_, "bias": bias, "holdout_loss": loss.gather(0, best[None])[0] / held}
    for name, tensor in values.items():
        variables[name] = xr.DataArray(tensor.numpy().astype(np.float32), dims="voxel")
    results = xr.Dataset(variables, attrs=block.attrs)
    write_part(job.folder, part_name(job.subject, job.layer, job.start), {job.subject: results})
    at_bounds = int(((best == 0) | (best == len(problem.lambdas) - 1)).sum())
    return {"median_accuracy": float(results["accuracy"].median()), "lambdas_at_bounds": at_bounds}


def _prepared(
    config: RidgePipeline, store: Store, job: GramJob | SolveJob
) -> tuple[TrialSplit, FeatureTable, torch.Tensor, Observations]:
    """Split of the trials, features, order of the images in the system, and observations in that order."""
    design = read_split(config, store, job.subject)
    table = open_features(config.features, RunFolder(job.folder), (job.layer,), store=store)[job.layer]
    order = fold_order(design.folds, design.observations)
    return design, table, order, design.observations.reordered(order)


def _write_weights(
    job: SolveJob,
    table: FeatureTable,
    design: TrialSplit,
    order: Tensor,
    statistics: FeatureStatistics,
    coefficients: Tensor,
) -> None:
    """Write weights of raw features, by blocks of features."""
    config, rows = job.pipeline, table.rows_of(design.images)
    dual = choose_form(len(order), table.count) == "dual"
    for columns in blocks(table.count, config.features_at_once):
        part = coefficients[columns]
        if dual:
            X = statistics.apply(torch.from_numpy(rows[:, columns]).clone(), columns)[order]
            part = X.T @ coefficients
        weights = (part / statistics.std[columns, None]).T.contiguous()
        write_weights(job.folder, job.subject, job.layer, job.start, columns, weights)


def _place(job: GramJob | SolveJob) -> str:
    return f"{job.folder}/parts/systems/{job.subject}-{safe_name(job.layer)}"
