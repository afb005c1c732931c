"""Banded ridge as tasks: kernels once per subject, then voxels in blocks.

An image counts with its trials: means are over trials, and squared errors, also those of the folds of images, are those
of single trials, apart from what trials of one image differ among themselves. :mod:`nsdflow.pipelines.banded.solvers`
has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import xarray as xr

from nsdflow.analysis import variance_partition
from nsdflow.engine.compute import choose_device, torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.errors import SelectionError
from nsdflow.fit.ridge import RidgeShape, plan_memory
from nsdflow.fit.ridge.products import accumulate, cross_products
from nsdflow.names import select_subjects
from nsdflow.pipelines.banded.settings import BandedRidgePipeline  # a field of jobs
from nsdflow.pipelines.banded.solvers import SOLVERS, himalaya_solver
from nsdflow.pipelines.common.data import check_voxels, query_of
from nsdflow.pipelines.features.settings import runs_named
from nsdflow.pipelines.features.source import FeatureTable, open_features
from nsdflow.pipelines.ridge.coefficients import (
    MODEL_BYTES,
    LinearModel,
    TermPlace,
    keep_model,
    open_rows_of,
    open_term,
)
from nsdflow.pipelines.ridge.data import coordinates_of_voxels, read_block, read_split
from nsdflow.pipelines.ridge.matrix import read_matrix, write_matrix
from nsdflow.runs import write_results
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import join_blocks, write_part
from nsdflow.store import Store, open_store

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from nsdflow.pipelines.banded.solvers import Solution

__all__ = [
    "KernelsJob",
    "PublishBandedJob",
    "VoxelBlockJob",
    "banded_model",
    "form_kernels",
    "plan_banded",
    "publish_banded",
    "solve_banded",
]


@dataclass(frozen=True)
class KernelsJob:
    """The kernels of all bands for one subject."""

    pipeline: BandedRidgePipeline
    store: str
    folder: str
    subject: str
    content: tuple[str, ...]
    """Of the features of each band: other ones make other kernels."""


@dataclass(frozen=True)
class VoxelBlockJob:
    """One block of voxels."""

    pipeline: BandedRidgePipeline
    store: str
    folder: str
    subject: str
    start: int
    content: tuple[str, ...]


@dataclass(frozen=True)
class PublishBandedJob:
    """The results of all blocks."""

    pipeline: BandedRidgePipeline
    folder: str
    store: str
    parts: dict[str, tuple[str, ...]]
    """Blocks of each subject, in the order of its voxels."""
    model: bool
    """Whether to keep the weights in ``model.safetensors``."""


def plan_banded(pipeline: BandedRidgePipeline, *, store: str, folder: RunFolder) -> Plan:
    """Kernels per subject, a solution per block of voxels, publication."""
    if pipeline.weighting == "search":
        himalaya_solver()  # without himalaya, raises before anything runs
    pool: Literal["cpu", "gpu"] = "cpu" if pipeline.device == "cpu" else "gpu"
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    tables = _tables(pipeline, folder, opened, check_values=True)
    held, content = sum(one.matrix.held_bytes for one in tables.values()), tuple(one.content for one in tables.values())
    tasks: list[Task] = []
    parts: dict[str, tuple[str, ...]] = {}
    voxels = 0
    for subject in subjects:
        query = opened.explain(subject, **query_of(pipeline, opened, subject))
        check_voxels(opened, subject, query.shape[1], pipeline.selection())
        voxels += query.shape[1]
        design = read_split(pipeline.as_ridge(), opened, subject)
        for table in tables.values():
            table.rows_of(np.unique(design.nsd_id))
        n, m = len(design.images), len(design.shown)
        widest = min(pipeline.features_at_once, max(table.count for table in tables.values()))
        key = f"kernels-{subject}"
        item = SOLVERS[pipeline.weighting].dtype.itemsize
        formed = Memory.with_torch(
            kernels=item * n * n, features=12 * (n + m) * widest, validation=4 * n * m, file=held
        )
        job = KernelsJob(pipeline, store, folder.path, subject, content)
        reads = 4 * (n + m) * sum(table.count for table in tables.values())
        tasks.append(Task(key, form_kernels, job, "kernels", pool=pool, memory=formed, reads=reads))
        for start in range(0, query.shape[1], pipeline.voxels_per_task):
            size = min(pipeline.voxels_per_task, query.shape[1] - start)
            parts[subject] = (*parts.get(subject, ()), f"{subject}-{start:06d}")
            memory = _memory(pipeline, n, m, size)
            tasks.append(
                Task(
                    f"solve-{subject}-{start:06d}",
                    solve_banded,
                    VoxelBlockJob(pipeline, store, folder.path, subject, start, content),
                    "solve",
                    after=(key,),
                    pool=pool,
                    memory=Memory.of(**memory.terms, responses=3 * query.result_bytes * size / query.shape[1]),
                    reads=query.bytes * size // query.shape[1],
                )
            )
    solved = [one for one in tasks if one.stage == "solve"]
    size = 4 * sum(table.count for table in tables.values()) * voxels
    model = size <= MODEL_BYTES and all(runs_named(band.features) for band in pipeline.bands.values())
    published_job = PublishBandedJob(pipeline, folder.path, store, parts, model)
    published = Memory.with_torch(model=4 * size if model else 0, file=held)
    tasks.append(publication(publish_banded, published_job, solved, memory=published))
    weightings = "equal weights" if pipeline.weighting == "equal" else f"{pipeline.iterations} weightings"
    tried = f"{weightings} x {pipeline.lambdas} lambdas, {pipeline.folds} folds"
    note = f"bands {', '.join(tables)}; {tried}"
    return Plan(f"{pipeline.name}: fit and publish", folder.path, tuple(tasks), notes=(note,))


def _memory(pipeline: BandedRidgePipeline, n: int, m: int, voxels: int) -> Memory:
    """Peak memory of a block of voxels, with n training and m validation images."""
    bands = len(pipeline.bands)
    parts = 4 * voxels * m * bands * (2 if pipeline.refit else 1)
    if pipeline.weighting == "equal":
        shape = RidgeShape(n, n, voxels, n, -(-n // pipeline.folds), from_disk=False, keep=True)
        solving = plan_memory(shape, replace(pipeline.as_ridge().problem(), form="dual"), double=True).bytes
        return Memory.with_torch(solving=solving, kernels=n * (8 * n + 4 * bands * m), parts=parts)
    return Memory.with_torch(
        kernels=4 * n * (bands * (n + m) + 5 * n),
        folds=4 * pipeline.lambdas * n * n // pipeline.folds,
        coefficients=4 * voxels * 6 * n,
        parts=parts,
    )


def _tables(
    config: BandedRidgePipeline, folder: RunFolder, store: Store | None, *, check_values: bool = False
) -> dict[str, FeatureTable]:
    """Features of each band."""
    tables = {}
    for name, band in config.bands.items():
        layer = (band.layer,) if band.layer else None
        found = open_features(band.features, folder, layer, store=store, check_values=check_values)
        if len(found) > 1:
            layers = ", ".join(found)
            raise SelectionError(f"band {name}: {band.features} has layers {layers}; write layer: one of them")
        tables[name] = next(iter(found.values()))
    return tables


@task("banded_ridge.kernels", version=2)
def form_kernels(job: KernelsJob) -> dict[str, int]:
    """Accumulate each band's kernel of the training images, and with the validation images."""
    config, opened = job.pipeline, open_store(job.store)
    design = read_split(config.as_ridge(), opened, job.subject)
    order, weight = torch.arange(len(design.images)), design.observations.counts()
    tables = _tables(config, RunFolder(job.folder), opened)
    device, dtype = choose_device(config.device), SOLVERS[config.weighting].dtype
    with torch_threads(config.threads, share=2):
        for number, table in enumerate(tables.values()):
            rows, others, at_once = table.rows_of(design.images), table.rows_of(design.shown), config.features_at_once
            kind: dict[str, Any] = {"center": True, "scale": config.standardise, "device": device}
            S, statistics, _ = accumulate(rows, order, weight, dtype=dtype, at_once=at_once, **kind)
            assert S is not None
            for start in range(0, len(S), 512):
                S[start + 512 :, start : start + 512] = S[start : start + 512, start + 512 :].T
            write_matrix(f"{_place(job)}/kernel-{number}", S)
            cross = cross_products(rows, order, others, statistics, at_once=at_once, device=device)
            write_matrix(f"{_place(job)}/validation-{number}", cross)
            TermPlace(job.folder, job.subject, number).keep_statistics(statistics, design.images, dual=True)
    return {name: table.count for name, table in tables.items()}


@task("banded_ridge.solve", version=3)
def solve_banded(job: VoxelBlockJob) -> dict[str, Any]:
    """Choose weightings and regularisations of one block of voxels, and evaluate."""
    config, opened = job.pipeline, open_store(job.store)
    ridge = config.as_ridge()
    design = read_split(ridge, opened, job.subject)
    block = read_block(ridge, opened, job.subject, design, slice(job.start, job.start + config.voxels_per_task))
    bands, place, device = range(len(config.bands)), _place(job), choose_device(config.device)
    c = design.observations.counts()
    nu = (c / c.sum()).float() @ block.Y  # (voxel,)

    def solved(some: list[int]) -> tuple[Solution, Tensor]:
        """Solve with some of the bands, and predict the validation images by band."""
        kernels = [f"{place}/kernel-{number}" for number in some]
        found = SOLVERS[config.weighting].solve(kernels, design, block.Y, config, device)
        return found, found.contributions([read_matrix(f"{place}/validation-{number}") for number in some])

    with torch_threads(config.threads, share=2):
        found, parts = solved(list(bands))  # parts (band, image, voxel)
        TermPlace(job.folder, job.subject, 0).keep(job.start, found.dual)
        without = None
        if config.refit:
            others = [[number for number in bands if number != band] for band in bands]
            refitted = [solved(some)[1].sum(0) if some else torch.zeros_like(parts[0]) for some in others]
            without = _by_band(torch.stack(refitted), design.shown)
    predictions = parts.sum(0) + nu
    variables = block.evaluate(predictions, design, config)
    variables["delta"] = xr.DataArray(
        found.deltas.numpy(), dims=("band", "voxel"), attrs={"long_name": "log weight of the band's kernel"}
    )
    variables["bias"] = xr.DataArray(nu.numpy(), dims="voxel")
    if found.lambda_ is not None:
        variables["lambda"] = xr.DataArray(found.lambda_.numpy().astype(np.float32), dims="voxel")
    measured = xr.DataArray(
        block.validation, dims=("trial", "voxel"), coords={"nsd_id": ("trial", design.nsd_id[design.shared])}
    )
    bootstrap: dict[str, Any] = {"resamples": config.bootstrap, "seed": config.seed}
    partition = variance_partition(_by_band(parts, design.shown), measured, without=without, **bootstrap)
    variables |= {str(name): values.reset_coords(drop=True) for name, values in partition.data_vars.items()}
    if config.predictions:
        variables["predictions"] = _by_band(parts, design.shown)
    attrs = {**block.attrs, **({} if found.lambda_ is None else {"lambdas": list(ridge.problem().lambdas)})}
    results = xr.Dataset(variables, attrs=attrs)
    write_part(job.folder, f"{job.subject}-{job.start:06d}", {job.subject: results})
    return {"median_accuracy": float(results["accuracy"].median())}


def _by_band(values: Tensor, nsd_id: NDArray[np.int64]) -> xr.DataArray:
    """Label predictions (band, image, voxel)."""
    return xr.DataArray(values.numpy(), dims=("band", "image", "voxel"), coords={"nsd_id": ("image", nsd_id)})


@task("banded_ridge.publish", version=3)
def publish_banded(job: PublishBandedJob) -> dict[str, Any]:
    """Join the blocks of each subject, name the bands, and publish."""
    groups = {}
    config, folder, opened = job.pipeline, RunFolder(job.folder), open_store(job.store)
    for subject, parts in job.parts.items():
        voxels = coordinates_of_voxels(config.as_ridge(), opened, subject)
        joined = join_blocks(job.folder, subject, parts)
        groups[subject] = joined.assign_coords({**voxels.coords, "band": list(config.bands)})
    if job.model:
        rows = {name: open_rows_of(name, folder) for name in config.earlier_runs()}
        models = {
            subject: banded_model(config, folder, subject, results, opened) for subject, results in groups.items()
        }
        terms = [
            (band.features, layer)
            for band, (_, layer) in zip(config.bands.values(), models[next(iter(models))].sources, strict=True)
        ]
        keep_model(folder, {name: one for name, one in rows.items() if one is not None}, terms, models)
        networks = {name: folder.sibling(name).record().get("network") for name in rows}
        folder.add_to_record(network=networks)
    write_results(job.folder, xr.DataTree.from_dict(groups))
    return {"subjects": list(groups)}


def banded_model(
    config: BandedRidgePipeline, folder: RunFolder, subject: str, results: xr.Dataset, store: Store | None
) -> LinearModel:
    """The coefficients of a run for one subject, with the features that they multiply: one term per band.

    All bands share the dual coefficients, which each multiplies by the weight of its kernel.
    """
    tables, count = _tables(config, folder, store), results.sizes["voxel"]
    rows = {name: open_rows_of(name, folder) for name in config.earlier_runs()}
    step = config.voxels_per_task
    columns = {start: torch.arange(start, min(start + step, count)) for start in range(0, count, step)}
    shared = tuple(f"{TermPlace(folder.path, subject, 0).url}/{start:06d}" for start in columns)
    terms, sources = [], []
    for number, (band, table) in enumerate(tables.items()):
        scale = torch.exp(torch.from_numpy(results["delta"].values[number]))
        term = open_term(TermPlace(folder.path, subject, number), table, columns, scale)
        terms.append(replace(term, urls=shared))
        sources.append((rows.get(config.bands[band].features), table.name))
    bias = torch.from_numpy(results["bias"].values)
    return LinearModel(config.name, tuple(terms), tuple(sources), bias, results[[]])


def _place(job: KernelsJob | VoxelBlockJob) -> str:
    return f"{job.folder}/parts/kernels/{job.subject}"
