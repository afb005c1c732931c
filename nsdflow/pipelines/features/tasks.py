"""Features as tasks: tasks create arrays, fill whole files by blocks of images, and publish them by a rename."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from nsdflow.engine.compute import choose_device, torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.errors import RunError
from nsdflow.io import flush
from nsdflow.io.folders import exists, list_folder, share_files
from nsdflow.io.paths import is_local, local_path
from nsdflow.io.read import read_json
from nsdflow.io.tensors import load_tensors, save_tensors
from nsdflow.models.networks import record_of, sketch_network
from nsdflow.models.networks.reduce import FeatureRows, Projection, feature_count, fit_pca
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import load_images
from nsdflow.pipelines.common.networks import check_network, is_network_of, keep_network, network_of
from nsdflow.pipelines.features.settings import FeaturesPipeline  # a field of jobs
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.results import RESULTS, ResultArray, create_results, has_results, publish_results, unpublished
from nsdflow.store import Store, open_store
from nsdflow.store.shard_format import open_sharded, write_region

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "ImageBlockJob",
    "LayersJob",
    "ShareJob",
    "compute_block",
    "create_arrays",
    "fit_projections",
    "group_of",
    "open_rows",
    "plan_features",
    "publish_features",
    "share_features",
]

#: A fitted PCA in the folder of the run. Features of other images need it.
PROJECTION = "projection.safetensors"
#: Number of images whose pixels distinguish two stores.
HASHED_IMAGES = 8
#: Features per inner chunk. A solver reads a multiple of it at once.
CHUNK_FEATURES = 1024


@dataclass(frozen=True)
class LayersJob:
    """All layers of a run."""

    pipeline: FeaturesPipeline
    store: str
    folder: str
    content: str
    """Hash of everything that determines the values."""


@dataclass(frozen=True)
class ImageBlockJob:
    """One block of images."""

    pipeline: FeaturesPipeline
    store: str
    folder: str
    start: int


@dataclass(frozen=True)
class ShareJob:
    """The same features, computed by another run."""

    source: str
    folder: str
    content: str


def plan_features(pipeline: FeaturesPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan blocks of images, or a link to a finished run of the same content."""
    opened = open_store(store)
    ids, content = image_ids(opened, pipeline), content_hash(opened, pipeline)
    title = f"{pipeline.name}: features of {len(ids)} images"
    if (twin := find_twin(folder, content, pipeline)) is not None:
        share = Task("share", share_features, ShareJob(twin, folder.path, content), "share", memory=Memory.with_torch())
        return Plan(title, folder.path, (share,), notes=(f"{twin} holds the same features; its files are linked",))
    check_network(folder, pipeline, pipeline.layers)
    counts = _counts(pipeline, opened)
    job = LayersJob(pipeline, store, folder.path, content)
    network, files = record_of(pipeline.features).memory, 2 * len(counts) + 2
    created = Memory.with_torch(network=network)
    tasks = [Task("create", create_arrays, job, "create", memory=created, files=files)]
    width = 4 * sum(raw for raw, _ in counts.values())
    row = np.dtype(pipeline.dtype).itemsize * sum(kept for _, kept in counts.values())
    pixels = 3 * opened.images().sizes["x"] ** 2
    if pipeline.projection.startswith("pca"):
        sample = min(pipeline.pca_images, len(ids))
        memory = Memory.with_torch(
            network=network, features=3 * sample * width, images=sample * pixels, decomposition=24 * sample**2
        )
        tasks.append(
            Task("project", fit_projections, job, "project", after=("create",), pool="gpu", memory=memory, files=1)
        )
    before = tuple(one.key for one in tasks)
    for start in range(0, len(ids), pipeline.images_per_task):
        size = min(pipeline.images_per_task, len(ids) - start)
        tasks.append(
            Task(
                f"features-{start:06d}",
                compute_block,
                ImageBlockJob(pipeline, store, folder.path, start),
                "features",
                after=before,
                pool="gpu",
                memory=Memory.with_torch(
                    network=network, maps=pipeline.batch_size * 2 * width, images=size * pixels, features=2 * size * row
                ),
                reads=size * pixels,
                writes=size * row,
                files=len(counts),
            )
        )
    tasks.append(publication(publish_features, job, tasks, memory=Memory.with_torch()))
    layers = ", ".join(f"{layer} ({kept:,})" for layer, (_, kept) in counts.items())
    return Plan(title, folder.path, tuple(tasks), notes=(f"layers of {pipeline.features} with features: {layers}",))


def image_ids(store: Store, pipeline: FeaturesPipeline) -> NDArray[np.int64]:
    """Images whose features are kept, ascending."""
    if pipeline.images == "all":
        return np.sort(store.images()["nsd_id"].values.astype(np.int64))
    subjects = select_subjects(store.subjects, pipeline.subjects)
    return np.unique(np.concatenate([store.trials(name)["nsd_id"].values for name in subjects])).astype(np.int64)


def content_hash(store: Store, pipeline: FeaturesPipeline) -> str:
    """Hash of the settings of network and layers, reductions and images, and of the pixels of a few images."""
    said = pipeline.model_dump(mode="json")
    ignored = ("name", "description", "subjects", "images", "images_per_task", "device", "threads", "batch_size")
    said = {key: value for key, value in said.items() if key not in ignored}
    ids = image_ids(store, pipeline)
    few = load_images(store, ids[np.linspace(0, len(ids) - 1, min(len(ids), HASHED_IMAGES)).astype(int)])
    hashes = [hashlib.sha256(values.tobytes()).hexdigest() for values in (ids, few)]
    return hashlib.sha256(json.dumps([said, hashes, few.shape], sort_keys=True).encode()).hexdigest()


def find_twin(folder: RunFolder, content: str, pipeline: FeaturesPipeline) -> str | None:
    """A finished run in the same folder with the same features of the same network with the same weights."""
    runs = folder.path.rpartition("/")[0] or "."
    for name in list_folder(runs) if exists(runs) else []:
        path = f"{runs}/{name}"
        if path != folder.path and exists(f"{path}/{RESULTS}/zarr.json") and has_results(path):
            attributes = read_json(f"{path}/{RESULTS}/zarr.json", "remove it").get("attributes", {})
            if attributes.get("content") == content and is_network_of(
                RunFolder(path), open_rows(pipeline, None).network
            ):
                return path
    return None


def group_of(layer: str) -> str:
    """Name of a layer's group in the results, without slashes, which would make nested groups."""
    return layer.replace("/", " per ")


@task("features.create", version=2)
def create_arrays(job: LayersJob) -> dict[str, int]:
    """Record the network, and create each layer's group, with an array (image, feature) without values."""
    config, opened = job.pipeline, open_store(job.store)
    keep_network(RunFolder(job.folder), open_rows(config, None).network)
    ids = image_ids(opened, config)
    counts = {layer: kept for layer, (_, kept) in _counts(config, opened).items()}
    table = xr.Dataset(coords={"nsd_id": ("image", ids)})
    root = xr.Dataset(attrs={"content": job.content, "network": config.features, "layers": list(counts)})
    tables = {"/": root} | {f"/{group_of(layer)}": table.assign_attrs(layer=layer) for layer in counts}
    arrays = {
        group_of(layer): ResultArray(
            "features",
            "feature",
            shape=(len(ids), count),
            chunk=(min(config.images_per_task, len(ids)), min(CHUNK_FEATURES, count)),
            dtype=config.dtype,
            attributes={"long_name": f"features of {layer}", "units": "1"},
        )
        for layer, count in counts.items()
    }
    create_results(job.folder, tables, arrays)
    return counts


@task("features.project", version=2)
def fit_projections(job: LayersJob) -> dict[str, Any]:
    """Fit the PCA of each layer on images that no subject is validated on."""
    config, opened = job.pipeline, open_store(job.store)
    ids = image_ids(opened, config)
    names = select_subjects(opened.subjects, config.subjects)
    shared = [opened.trials(name)["nsd_id"].values[opened.trials(name)["shared"].values.astype(bool)] for name in names]
    training = np.setdiff1d(ids, np.concatenate(shared))
    drawn = np.random.default_rng(config.seed).permutation(training)[: config.pca_images]
    with torch_threads(config.threads, share=2):
        features = _features(config, opened, np.sort(drawn), open_rows(config, None))
        components = int(config.projection[4:-1])
        state = {}
        for number, values in enumerate(features.values()):
            fitted = fit_pca(values, components)
            state[f"matrix.{number}"] = fitted.matrix
            state[f"mean.{number}"] = fitted.mean if fitted.mean is not None else values.new_zeros(values.shape[1])
    save_tensors(f"{job.folder}/{PROJECTION}", state)
    return {"images": len(drawn)}


@task("features.block", version=1)
def compute_block(job: ImageBlockJob) -> None:
    """Compute one block of images and write the files that hold its rows."""
    config, opened = job.pipeline, open_store(job.store)
    ids = image_ids(opened, config)[job.start : job.start + config.images_per_task]
    with torch_threads(config.threads, share=2):
        features = _features(config, opened, ids, open_rows(config, job.folder))
    for layer, values in features.items():
        if not bool(values.isfinite().all()):
            row = int((~values.isfinite()).any(1).nonzero()[0, 0])
            raise RunError(
                f"{layer} of {config.features} is not finite for image {ids[row]} in {config.dtype}; "
                "use dtype: float32, or look at the network's weights"
            )
        array = open_sharded(f"{unpublished(job.folder)}/{group_of(layer)}/features")
        write_region(array, (job.start, 0), values.numpy().astype(config.dtype))


@task("features.publish", version=1)
def publish_features(job: LayersJob) -> dict[str, Any]:
    """Check that no file is missing, and give the results their final name."""
    layers = list(_counts(job.pipeline, open_store(job.store)))
    if not has_results(job.folder):
        publish_results(job.folder, [f"{group_of(layer)}/features" for layer in layers])
    return {"layers": layers}


@task("features.share", version=2)
def share_features(job: ShareJob) -> dict[str, Any]:
    """Link the files of a finished run of the same content."""
    if not has_results(job.folder):
        source, target = RunFolder(job.source), RunFolder(job.folder)
        if source.exists(PROJECTION):
            save_tensors(target.url(PROJECTION), load_tensors(source.url(PROJECTION)))
        target.add_to_record(network=source.record().get("network"))
        aside = unpublished(job.folder)
        _share_tree(f"{job.source}/{RESULTS}", aside)
        if is_local(aside):
            flush.publish(local_path(aside), local_path(f"{job.folder}/{RESULTS}"))
    return {"shared_with": job.source}


def _share_tree(source: str, target: str) -> None:
    """Link all files of a folder and its subfolders, with the metadata of the root last."""
    for name in sorted(list_folder(source), reverse=True):
        if exists(f"{source}/{name}/zarr.json") or name == "c" or name.isdigit():
            _share_tree(f"{source}/{name}", f"{target}/{name}")
    share_files(source, target)


def _counts(config: FeaturesPipeline, store: Store) -> dict[str, tuple[int, int]]:
    """Features of each layer before and after the projection."""
    size = int(store.images().sizes["x"])
    shapes = sketch_network(config.features, layers=config.layers).shapes(size)
    counts = {}
    for layer, shape in shapes.items():
        raw = feature_count(shape, config.spatial, config.tokens)
        text = config.projection
        counts[layer] = raw, raw if text == "none" else int(text.rstrip(")").split("(")[1].split(",")[0])
    return counts


def open_rows(config: FeaturesPipeline, folder: str | None) -> FeatureRows:
    """The network of a features pipeline with its reductions, as a module from images to rows of features.

    Parameters
    ----------
    folder : str or None
        Folder of the run, which holds a fitted PCA; None leaves the projection out.
    """
    network = network_of(config, config.layers)
    fitted = None
    if folder is not None and config.projection.startswith("pca"):
        state = load_tensors(f"{folder}/{PROJECTION}")
        fitted = [Projection(state[f"matrix.{n}"], state[f"mean.{n}"]) for n in range(len(network.layers))]
    return FeatureRows(
        network,
        spatial=config.spatial,
        tokens=config.tokens,
        projection="none" if folder is None else config.projection,
        seed=config.seed,
        fitted=fitted,
        rounded=folder is not None and config.dtype == "float16",
    )


@torch.inference_mode()
def _features(config: FeaturesPipeline, store: Store, ids: NDArray[np.int64], rows: FeatureRows) -> dict[str, Tensor]:
    """Features (image, feature) float32 of some images by layer, on the CPU."""
    device = choose_device(config.device)
    rows.to(device)
    parts = [rows(torch.from_numpy(load_images(store, some)).to(device)) for some in _batches(ids, config.batch_size)]
    return {layer: torch.cat(part) for layer, part in zip(rows.layers, zip(*parts, strict=True), strict=True)}


def _batches(ids: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
