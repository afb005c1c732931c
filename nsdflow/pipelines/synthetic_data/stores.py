"""Stores of synthetic responses: created without values, filled subject by subject, verified, published.

A data set shows every image of a subject's list whose prediction exists, in the order of the list. The presentations of
an image are consecutive, so that the holdout of the published protocol (the last tenth of the trials) shows other
images than the training. Responses are drawn z-scored, and stored in float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import nsdflow
from nsdflow.analysis import synthetic_responses
from nsdflow.engine.plan import task
from nsdflow.fit.streams import seed_of
from nsdflow.io.folders import list_files, remove, share_files
from nsdflow.nsd.betas import session_statistics
from nsdflow.pipelines.common.data import listed_images
from nsdflow.runs import open_run
from nsdflow.runs.parts import open_parts
from nsdflow.store import Store, open_store
from nsdflow.store.build import Workspace, create_subject, is_taken, publish_store, workspace_of
from nsdflow.store.chunks import read_region
from nsdflow.store.schema import SCHEMA_VERSION, STATISTICS, STIMULI_GROUP
from nsdflow.store.shard_format import open_sharded, write_region
from nsdflow.store.shard_sizes import Cut
from nsdflow.store.verify import check_whole
from nsdflow.store.voxels import positions_of

__all__ = [
    "PREDICTED_IMAGES",
    "ResponsesJob",
    "StoreJob",
    "StoresJob",
    "create_stores",
    "presentation",
    "publish_stores",
    "write_responses",
]

#: Number of images whose predictions are in memory at once.
PREDICTED_IMAGES = 500


@dataclass(frozen=True)
class StoreJob:
    """One data set, with JSON values."""

    url: str
    """Location of the store of the data set."""
    source: str
    """The store of the measured responses."""
    predictions: str
    """The run whose predictions are the signal."""
    repeats: int
    noise: bool
    seed: int
    cuts: dict[str, Cut]
    """Chunks and shards of each subject's betas."""
    attributes: dict[str, Any]
    """Attributes of the store, without its subjects."""

    @property
    def workspace(self) -> Workspace:
        """Folder in which the store is built."""
        return workspace_of(self.url)

    def cut(self, subject: str) -> Cut:
        """Chunks and shards of a subject's betas."""
        return self.cuts[subject]


@dataclass(frozen=True)
class StoresJob:
    """All data sets of a run."""

    folder: str
    datasets: tuple[StoreJob, ...]
    subjects: tuple[str, ...]


@task("synthetic_data.create", version=2)
def create_stores(job: StoresJob) -> dict[str, Any]:
    """Create every data set's groups: coordinates with their values, betas without, and the images."""
    images = {}
    for dataset in job.datasets:
        store, built = open_store(dataset.source), dataset.workspace.built
        models = open_parts(job.folder, list(dataset.cuts))
        for subject in dataset.cuts:
            predicted = open_run(dataset.predictions)[subject].to_dataset()["predictions"]
            create_subject(
                built,
                subject,
                trials=_trials(dataset, store, subject, predicted["nsd_id"].values),
                voxels=_voxels(dataset, store, subject, models[subject][subject].to_dataset()),
                sessions=dataset.repeats,
                dtype="float32",
                cut=dataset.cut(subject),
                attributes=store.voxels(subject).attrs
                | {"sessions": list(range(1, dataset.repeats + 1)), "source": dataset.predictions},
            )
        images[dataset.url] = share_files(f"{dataset.source}/{STIMULI_GROUP}", f"{built}/{STIMULI_GROUP}")
    return {"image_files": images}


@dataclass(frozen=True)
class ResponsesJob:
    """Responses of one subject in one data set."""

    dataset: StoreJob
    folder: str
    subject: str


@task("synthetic_data.responses", version=2)
def write_responses(job: ResponsesJob) -> dict[str, Any]:
    """Draw one subject's responses session by session, and write them and their statistics into separate shards.

    Memory holds one session, the noise model, and predictions of :data:`PREDICTED_IMAGES` images.
    """
    dataset, subject = job.dataset, job.subject
    model = open_parts(job.folder, [subject])[subject][subject].to_dataset()
    model = model[["gain", "mixing", "signal_mean", "signal_std"]].reset_coords(drop=True).load()
    predicted = open_run(dataset.predictions)[subject].to_dataset()["predictions"]
    order = presentation(open_store(dataset.source), subject, predicted["nsd_id"].values)
    group = f"{dataset.workspace.built}/{subject}"
    betas = open_sharded(f"{group}/betas")
    size, statistics = len(order.rows), []
    for session in range(dataset.repeats):
        values = np.empty((size, betas.shape[1]), np.float32)
        for start in range(0, size, PREDICTED_IMAGES * dataset.repeats):
            stop = min(start + PREDICTED_IMAGES * dataset.repeats, size)
            trials = np.arange(session * size + start, session * size + stop)
            first, last = trials[0] // dataset.repeats, trials[-1] // dataset.repeats + 1
            drawn = _drawn(dataset, model, predicted[order.rows[first:last]].load(), subject)
            values[start:stop] = drawn.reshape(-1, betas.shape[1])[trials - first * dataset.repeats]
        write_region(betas, (session * size, 0), values)
        mean, std = session_statistics(values)
        known = {"beta_mean": mean, "beta_std": std}
        statistics.append(
            {**known, "valid": np.ones(mean.shape, np.bool_), "saturated": np.zeros(mean.shape, np.bool_)}
        )
    for name in STATISTICS:
        write_region(open_sharded(f"{group}/{name}"), (0, 0), np.stack([one[name] for one in statistics]))
    return {"trials": betas.shape[0], "voxels": betas.shape[1]}


def publish_stores(jobs: Sequence[StoreJob]) -> list[str]:
    """Check that no file of the stores is missing, and give each store its final name, unless it has it already."""
    for job in jobs:
        workspace = job.workspace
        if is_taken(workspace.store):  # an interrupted publication has renamed this store already
            remove(workspace.folder)
            continue
        for subject in job.cuts:
            group = f"{workspace.built}/{subject}"
            shape = open_sharded(f"{group}/betas").shape
            check_whole(f"{group}/betas", shape)
            for name in STATISTICS:
                check_whole(f"{group}/{name}", (job.repeats, shape[1]))
        images = open_sharded(f"{workspace.built}/{STIMULI_GROUP}/images")
        check_whole(images.url, images.shape)
        files = {group: len(list_files(f"{workspace.built}/{group}")) for group in (*job.cuts, STIMULI_GROUP)}
        drawn = {subject: _statistics_hash(f"{workspace.built}/{subject}") for subject in job.cuts}
        known = {"files": files, "statistics": drawn, **job.attributes}
        manifest = {"schema": SCHEMA_VERSION, "nsdflow": nsdflow.__version__, **known}
        created = {"created_with": f"nsdflow {nsdflow.__version__}"}
        publish_store(workspace, {"subjects": list(job.cuts), **job.attributes, **created}, manifest)
    return [job.url for job in jobs]


def _statistics_hash(group: str) -> str:
    """Hash of the session statistics: stores with other responses have others, and a run knows them apart."""
    values = [read_region(open_sharded(f"{group}/{name}"), (None, None)) for name in STATISTICS]
    return hashlib.sha256(b"".join(one.tobytes() for one in values)).hexdigest()[:16]


@dataclass(frozen=True)
class Presentation:
    """Images of a subject's data set in the order of presentation: shared ones first, as in the subject's list."""

    rows: NDArray[np.intp]
    """(image,) rows of the predictions"""
    shared: NDArray[np.bool_]
    """(image,)"""
    subject_image: NDArray[np.int64]
    """(image,) position in the subject's list if trials give it for all images, otherwise in this order"""


def presentation(store: Store, subject: str, predicted_ids: NDArray[np.int64]) -> Presentation:
    """Images that a data set presents: those of the subject's list whose predictions exist.

    Parameters
    ----------
    store : Store
        The store of the measured responses.
    subject : str
        Such as ``"subj01"``.
    predicted_ids : array of int
        (row,) ``nsd_id`` of the predictions.
    """
    listed, trials = listed_images(store, subject), store.trials(subject)
    rows = np.flatnonzero(np.isin(predicted_ids, listed.nsd_id))
    ids = predicted_ids[rows]
    shared = listed.shared[np.searchsorted(listed.nsd_id, ids)]
    known, first = np.unique(trials["nsd_id"].values, return_index=True)
    if np.isin(ids, known).all():
        position = trials["subject_image"].values[first][np.searchsorted(known, ids)].astype(np.int64)
        order = np.argsort(position)
        return Presentation(rows[order], shared[order], position[order])
    order = np.lexsort((ids, ~shared))
    return Presentation(rows[order], shared[order], np.arange(len(rows)))


def _drawn(job: StoreJob, model: xr.Dataset, predicted: xr.DataArray, subject: str) -> NDArray[np.floating[Any]]:
    """Responses (image, repetition, voxel) to some images: z alone, or b z + R n."""
    scale = xr.where(model["signal_std"] > 0, model["signal_std"], np.inf)
    signal = ((predicted - model["signal_mean"]) / scale).astype(np.float32)
    if not job.noise:
        return np.repeat(signal.values[:, None], job.repeats, axis=1)
    # subjects share images and must not share the noise
    seed = seed_of(job.seed, "synthetic noise", subject)
    return synthetic_responses(model, signal, repeats=job.repeats, seed=seed).values


def _trials(job: StoreJob, store: Store, subject: str, predicted_ids: NDArray[np.int64]) -> xr.Dataset:
    """Coordinates of the trials; the presentations of an image are consecutive."""
    order = presentation(store, subject, predicted_ids)
    size, repeats = len(order.rows), job.repeats
    columns = {
        "session": np.repeat(np.arange(1, repeats + 1), size),
        "run": np.ones(size * repeats, np.int64),
        "nsd_id": np.repeat(predicted_ids[order.rows], repeats),
        "repetition": np.tile(np.arange(repeats), size),
        "subject_image": np.repeat(order.subject_image, repeats),
        "shared": np.repeat(order.shared, repeats),
    }
    return xr.Dataset(coords={name: ("trial", values) for name, values in columns.items()})


def _voxels(job: StoreJob, store: Store, subject: str, model: xr.Dataset) -> xr.Dataset:
    """Coordinates of the predicted voxels, with the ncsnr of the synthetic responses.

    Responses without noise have an infinite ratio, so they have no ncsnr.
    """
    known = store.voxels(subject)
    rows = positions_of(model["flat_index"].values, known["flat_index"].values, subject)
    table = known.isel(voxel=rows).drop_vars("ncsnr", errors="ignore")
    if job.noise:
        gain, noise = abs(model["gain"].values), model["noise_std"].values
        table["ncsnr"] = ("voxel", np.divide(gain, noise, out=np.zeros_like(gain), where=noise > 0))
    return table.set_coords(list(table.variables)).drop_attrs(deep=False)
