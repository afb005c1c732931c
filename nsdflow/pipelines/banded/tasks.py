"""Banded ridge as tasks: kernels once per subject, then voxels in blocks.

With c_i trials of image i, weighted means mu (feature,) and nu (voxel,) over trials, and Q = diag(sqrt(c)), himalaya
gets the kernels Q (X_b - mu)(X_b - mu)' Q and the responses Q (Y - nu). Its squared errors, also those of its folds of
images, are then those of single trials, apart from what trials of one image differ among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from nsdflow.analysis import variance_partition
from nsdflow.engine.compute import torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, task
from nsdflow.errors import MissingDataError, SelectionError
from nsdflow.fit.ridge.products import accumulate, cross_products
from nsdflow.names import select_subjects
from nsdflow.pipelines.banded.settings import BandedRidgePipeline  # noqa: TC001  # a field of jobs
from nsdflow.pipelines.common.data import check_voxels
from nsdflow.pipelines.common.evaluation import validation_accuracy
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
from nsdflow.pipelines.ridge.data import read_block, read_split
from nsdflow.pipelines.ridge.matrix import read_matrix, write_matrix
from nsdflow.runs import write_results
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import open_parts, write_part
from nsdflow.store import Store, open_store

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


@dataclass(frozen=True)
class VoxelBlockJob:
    """One block of voxels."""

    pipeline: BandedRidgePipeline
    store: str
    folder: str
    subject: str
    start: int


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
    solver()  # raises on a machine without himalaya before anything runs
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    tables = _tables(pipeline, folder, opened)
    tasks: list[Task] = []
    parts: dict[str, tuple[str, ...]] = {}
    voxels = 0
    for subject in subjects:
        query = opened.explain(subject, **pipeline.selection())
        check_voxels(opened, subject, query.shape[1], pipeline.selection())
        voxels += query.shape[1]
        design = read_split(pipeline.as_ridge(), opened, subject)
        for table in tables.values():
            table.rows_of(np.unique(design.nsd_id))
        n, m, bands = len(design.images), len(design.shown), len(tables)
        widest = min(pipeline.features_at_once, max(table.count for table in tables.values()))
        key = f"kernels-{subject}"
        formed = Memory.with_torch(kernels=4 * n * n, features=12 * (n + m) * widest, validation=4 * n * m)
        job = KernelsJob(pipeline, store, folder.path, subject)
        reads = 4 * (n + m) * sum(table.count for table in tables.values())
        tasks.append(Task(key, form_kernels, job, "kernels", memory=formed, reads=reads))
        for start in range(0, query.shape[1], pipeline.voxels_per_task):
            size = min(pipeline.voxels_per_task, query.shape[1] - start)
            parts[subject] = (*parts.get(subject, ()), f"{subject}-{start:06d}")
            tasks.append(
                Task(
                    f"solve-{subject}-{start:06d}",
                    solve_banded,
                    VoxelBlockJob(pipeline, store, folder.path, subject, start),
                    "solve",
                    after=(key,),
                    memory=Memory.with_torch(
                        kernels=4 * n * (bands * (n + m) + 5 * n),
                        folds=4 * pipeline.lambdas * n * n // pipeline.folds,
                        responses=3 * query.result_bytes * size / query.shape[1],
                        coefficients=4 * size * (6 * n + bands * m),
                    ),
                    reads=query.bytes * size // query.shape[1],
                )
            )
    solved = tuple(one.key for one in tasks if one.stage == "solve")
    size = 4 * sum(table.count for table in tables.values()) * voxels
    model = size <= MODEL_BYTES and all(runs_named(band.features) for band in pipeline.bands.values())
    publication = PublishBandedJob(pipeline, folder.path, store, parts, model)
    published = Memory.with_torch(model=4 * size if model else 0)
    tasks.append(Task("publish", publish_banded, publication, "publish", after=solved, memory=published))
    tried = f"{pipeline.iterations} weightings x {pipeline.lambdas} lambdas, {pipeline.folds} folds"
    note = f"bands {', '.join(tables)}; {tried}"
    return Plan(f"{pipeline.name}: fit and publish", folder.path, tuple(tasks), notes=(note,))


def solver() -> Any:
    """himalaya's random search.

    Raises
    ------
    MissingDataError
        himalaya is not installed.
    """
    try:
        from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
    except ImportError:
        raise MissingDataError("banded_ridge needs himalaya; pip install 'nsdflow[banded]'") from None
    return solve_multiple_kernel_ridge_random_search


def _tables(config: BandedRidgePipeline, folder: RunFolder, store: Store | None) -> dict[str, FeatureTable]:
    """Features of each band."""
    tables = {}
    for name, band in config.bands.items():
        found = open_features(band.features, folder, (band.layer,) if band.layer else None, store=store)
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
    with torch_threads(config.threads, share=2):
        for number, table in enumerate(tables.values()):
            rows, others, at_once = table.rows_of(design.images), table.rows_of(design.shown), config.features_at_once
            kind: dict[str, Any] = {"center": True, "scale": config.standardise}
            S, statistics, _ = accumulate(rows, order, weight, dtype=torch.float32, at_once=at_once, **kind)
            assert S is not None
            for start in range(0, len(S), 512):
                S[start + 512 :, start : start + 512] = S[start : start + 512, start + 512 :].T
            write_matrix(f"{_place(job)}/kernel-{number}", S)
            cross = cross_products(rows, order, others, statistics, at_once=at_once)
            write_matrix(f"{_place(job)}/validation-{number}", cross)
            TermPlace(job.folder, job.subject, number).keep_statistics(statistics, design.images, dual=True)
    return {name: table.count for name, table in tables.items()}


@task("banded_ridge.solve", version=2)
def solve_banded(job: VoxelBlockJob) -> dict[str, Any]:
    """Choose weightings and regularisations of one block of voxels, and evaluate."""
    config, opened = job.pipeline, open_store(job.store)
    ridge = config.as_ridge()
    design = read_split(ridge, opened, job.subject)
    block = read_block(ridge, opened, job.subject, design, slice(job.start, job.start + config.voxels_per_task))
    names, place = list(config.bands), _place(job)
    Ks = torch.stack([read_matrix(f"{place}/kernel-{number}") for number in range(len(names))])
    c = design.observations.counts()
    q, share = c.sqrt().float(), (c / c.sum()).float()  # (image,)
    nu = share @ block.Y  # (voxel,)
    with torch_threads(config.threads, share=2):
        Ks.mul_(q[:, None]).mul_(q)
        deltas, dual = run_himalaya(Ks, q[:, None] * (block.Y - nu), config)
        del Ks
        dual *= q[:, None]
        TermPlace(job.folder, job.subject, 0).keep(job.start, dual)
        crosses = [read_matrix(f"{place}/validation-{number}") for number in range(len(names))]
        # (band, image, voxel)
        parts = torch.stack([cross @ dual * torch.exp(delta) for cross, delta in zip(crosses, deltas, strict=True)])
    predictions = parts.sum(0) + nu
    variables = validation_accuracy(
        predictions.numpy(), design.shown, block.validation, design.nsd_id[design.shared], block.voxels.get("ncsnr"),
        resamples=config.bootstrap, seed=config.seed, repetitions=design.repetitions,
    )  # fmt: skip
    variables["delta"] = xr.DataArray(
        deltas.numpy(), dims=("band", "voxel"), attrs={"long_name": "log weight of the band's kernel (himalaya)"}
    )
    variables["bias"] = xr.DataArray(nu.numpy(), dims="voxel")
    contributions = xr.DataArray(
        parts.numpy(), dims=("band", "image", "voxel"), coords={"nsd_id": ("image", design.shown)}
    )
    measured = xr.DataArray(
        block.validation, dims=("trial", "voxel"), coords={"nsd_id": ("trial", design.nsd_id[design.shared])}
    )
    partition = variance_partition(contributions, measured, resamples=config.bootstrap, seed=config.seed)
    variables |= {str(name): values.reset_coords(drop=True) for name, values in partition.data_vars.items()}
    coords: dict[Any, Any] = dict(block.voxels.coords)
    if config.predictions:
        variables["predictions"] = xr.DataArray(parts.numpy(), dims=("band", "image", "voxel"))
        coords["nsd_id"] = ("image", design.shown)
    results = xr.Dataset(variables).assign_coords(coords).assign_attrs(block.attrs)
    write_part(job.folder, f"{job.subject}-{job.start:06d}", {job.subject: results})
    return {"median_accuracy": float(results["accuracy"].median())}


@task("banded_ridge.publish", version=2)
def publish_banded(job: PublishBandedJob) -> dict[str, Any]:
    """Join the blocks of each subject, name the bands, and publish."""
    groups = {}
    for subject, parts in job.parts.items():
        blocks = [tree[subject].to_dataset().load() for tree in open_parts(job.folder, parts).values()]
        whole = xr.concat(blocks, dim="voxel", data_vars="minimal", coords="minimal", combine_attrs="override")
        groups[subject] = whole.assign_coords(band=list(job.pipeline.bands))
    config, folder, opened = job.pipeline, RunFolder(job.folder), open_store(job.store)
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


def run_himalaya(Ks: torch.Tensor, Y: torch.Tensor, config: BandedRidgePipeline) -> tuple[torch.Tensor, torch.Tensor]:
    """Find log kernel weights (band, voxel) and dual coefficients (image, voxel) by himalaya's random search.

    Parameters
    ----------
    Ks : Tensor
        (band, image, image) kernels of the training images.
    Y : Tensor
        (image, voxel) responses, centred.
    config : BandedRidgePipeline
        Settings of the search.
    """
    from himalaya.backend import set_backend
    from sklearn.model_selection import KFold

    set_backend("torch")
    deltas, dual, _ = solver()(
        Ks,
        Y,
        n_iter=config.iterations,
        alphas=torch.from_numpy(np.geomspace(config.lambda_min, config.lambda_max, config.lambdas)).float(),
        cv=KFold(config.folds, shuffle=True, random_state=config.seed),
        return_weights="dual",
        random_state=config.seed,
        progress_bar=False,
    )
    return deltas, dual


def _place(job: KernelsJob | VoxelBlockJob) -> str:
    return f"{job.folder}/parts/kernels/{job.subject}"
