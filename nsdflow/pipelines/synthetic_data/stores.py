"""Stores of synthetic responses: created without values, filled subject by subject, verified, published.

A data set shows every image that a subject saw, and whose prediction is there, once a session, each session in an order
of its own: trials are as many in each, and z-scoring by session sees the same images in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import nsdflow
from nsdflow.analysis import synthetic_responses
from nsdflow.engine.plan import task
from nsdflow.io.folders import list_files, remove, share_files
from nsdflow.names import BETAS_SCALE, subject_number
from nsdflow.nsd.betas import is_saturated, session_statistics
from nsdflow.runs import open_run
from nsdflow.runs.parts import open_parts
from nsdflow.store import open_store
from nsdflow.store.build import Workspace, create_subject, is_taken, publish, workspace_of
from nsdflow.store.schema import SCHEMA_VERSION, STATISTICS, STIMULI, Cut
from nsdflow.store.shards import open_sharded, write_region
from nsdflow.store.verify import check_whole
from nsdflow.store.voxels import positions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nsdflow.store import Store

__all__ = [
    "IMAGES_AT_ONCE",
    "TRIAL_COORDINATES",
    "ResponsesJob",
    "StoreJob",
    "StoresJob",
    "create_stores",
    "presented",
    "publish_stores",
    "seen_rows",
    "write_responses",
]

#: Predictions of so many images are in memory at once.
IMAGES_AT_ONCE = 500
#: Coordinates of a trial: session, run, nsd_id, repetition, subject_image, shared.
TRIAL_COORDINATES = 6
#: The largest stored beta; the least one is the fill value.
LARGEST = np.iinfo(np.int16).max


@dataclass(frozen=True)
class StoreJob:
    """One data set, as JSON values."""

    url: str
    """Where its store will be."""
    source: str
    """The store of the measured responses."""
    predictions: str
    """The run whose predictions are the signal."""
    repeats: int
    noise: bool
    seed: int
    cuts: dict[str, Cut]
    """How each subject's betas are cut."""
    attributes: dict[str, Any]
    """Of the store, besides its subjects."""

    @property
    def workspace(self) -> Workspace:
        """Where it is built."""
        return workspace_of(self.url)

    def cut(self, subject: str) -> Cut:
        """How a subject's betas are cut."""
        return self.cuts[subject]


@dataclass(frozen=True)
class StoresJob:
    """All data sets of a run."""

    folder: str
    datasets: tuple[StoreJob, ...]
    subjects: tuple[str, ...]


@task("synthetic_data.create", version=1)
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
                dtype="int16",
                cut=dataset.cut(subject),
                attributes=store.voxels(subject).attrs
                | {"sessions": list(range(1, dataset.repeats + 1)), "source": dataset.predictions},
            )
        images[dataset.url] = share_files(f"{dataset.source}/{STIMULI}", f"{built}/{STIMULI}")
    return {"image_files": images}


@dataclass(frozen=True)
class ResponsesJob:
    """Responses of one subject in one data set."""

    dataset: StoreJob
    folder: str
    subject: str


@task("synthetic_data.responses", version=1)
def write_responses(job: ResponsesJob) -> dict[str, Any]:
    """Draw one subject's responses session by session into shards of their own, and the sessions' statistics.

    Memory holds one session as int16, the noise model, and predictions of :data:`IMAGES_AT_ONCE` images.
    """
    dataset, subject = job.dataset, job.subject
    model = open_parts(job.folder, [subject])[subject][subject].to_dataset()
    model = model[["gain", "mixing", "signal_mean", "signal_std"]].reset_coords(drop=True).load()
    predicted = open_run(dataset.predictions)[subject].to_dataset()["predictions"]
    rows = seen_rows(open_store(dataset.source), subject, predicted["nsd_id"].values)
    group = f"{dataset.workspace.built}/{subject}"
    betas = open_sharded(f"{group}/betas")
    moments, clipped = [], 0
    for session in range(dataset.repeats):
        values = np.empty((len(rows), betas.shape[1]), np.int16)
        place = np.argsort(presented(dataset.seed, subject, session, len(rows)))
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            block = slice(start, start + IMAGES_AT_ONCE)
            drawn = _drawn(dataset, model, predicted[rows[block]].load(), subject, session)
            stored = np.rint(drawn / np.float32(BETAS_SCALE))
            clipped += int((abs(stored) > LARGEST).sum())
            values[place[block]] = np.clip(stored, -LARGEST, LARGEST)
        write_region(betas, (session * len(rows), 0), values)
        mean, std = session_statistics(values, BETAS_SCALE)
        moments.append(
            {
                "beta_mean": mean,
                "beta_std": std,
                "valid": np.ones(mean.shape, np.bool_),
                "saturated": is_saturated(values, mean, std, BETAS_SCALE),
            }
        )
    for name in STATISTICS:
        write_region(open_sharded(f"{group}/{name}"), (0, 0), np.stack([moment[name] for moment in moments]))
    return {"trials": betas.shape[0], "voxels": betas.shape[1], "clipped": clipped}


def publish_stores(jobs: Sequence[StoreJob]) -> list[str]:
    """Check that nothing is missing in the stores, and give each its name; those that have it keep it."""
    for job in jobs:
        workspace = job.workspace
        if is_taken(workspace.store):  # an interrupted publication got this far
            remove(workspace.folder)
            continue
        for subject in job.cuts:
            group = f"{workspace.built}/{subject}"
            shape = open_sharded(f"{group}/betas").shape
            check_whole(f"{group}/betas", shape)
            for name in STATISTICS:
                check_whole(f"{group}/{name}", (job.repeats, shape[1]))
        images = open_sharded(f"{workspace.built}/{STIMULI}/images")
        check_whole(images.url, images.shape)
        files = {group: len(list_files(f"{workspace.built}/{group}")) for group in (*job.cuts, STIMULI)}
        manifest = {"schema": SCHEMA_VERSION, "nsdflow": nsdflow.__version__, "files": files, **job.attributes}
        created = {"created_with": f"nsdflow {nsdflow.__version__}"}
        publish(workspace, {"subjects": list(job.cuts), **job.attributes, **created}, manifest)
    return [job.url for job in jobs]


def seen_rows(store: Store, subject: str, predicted_ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """Rows of the predictions whose images the subject saw: those that a data set presents."""
    return np.flatnonzero(np.isin(predicted_ids, store.trials(subject)["nsd_id"].values))


def presented(seed: int, subject: str, session: int, images: int) -> NDArray[np.int64]:
    """The image (its position) that each trial of a session shows."""
    return np.random.default_rng((seed, subject_number(subject), session)).permutation(images)


def _drawn(
    job: StoreJob, model: xr.Dataset, predicted: xr.DataArray, subject: str, session: int
) -> NDArray[np.floating[Any]]:
    """Responses (image, voxel) to some images in one session."""
    scale = xr.where(model["signal_std"] > 0, model["signal_std"], np.inf)
    signal = (predicted - model["signal_mean"]) / scale
    # subjects see shared images, and must not share the noise
    seed = int(np.random.SeedSequence((job.seed, subject_number(subject))).generate_state(1)[0])
    drawn = synthetic_responses(model, signal.astype(np.float32), repeats=1, first=session, noise=job.noise, seed=seed)
    return drawn.isel(repetition=0).values


def _trials(job: StoreJob, store: Store, subject: str, predicted_ids: NDArray[np.int64]) -> xr.Dataset:
    """Coordinates of the trials, session after session."""
    ids = predicted_ids[seen_rows(store, subject, predicted_ids)]
    shown = np.concatenate([ids[presented(job.seed, subject, session, len(ids))] for session in range(job.repeats)])
    session = np.repeat(np.arange(job.repeats), len(ids))
    known = store.trials(subject)
    there, first = np.unique(known["nsd_id"].values, return_index=True)
    row = first[np.searchsorted(there, shown)]
    columns = {
        "session": session + 1,
        "run": np.ones_like(session),
        "nsd_id": shown,
        "repetition": session,
        **{name: known[name].values[row] for name in ("subject_image", "shared")},
    }
    return xr.Dataset(coords={name: ("trial", values) for name, values in columns.items()})


def _voxels(job: StoreJob, store: Store, subject: str, model: xr.Dataset) -> xr.Dataset:
    """Coordinates of the voxels that are predicted, with the ncsnr that was planted.

    Without noise the ratio has no bound, and there is none.
    """
    known = store.voxels(subject)
    rows = positions_of(model["flat_index"].values, known["flat_index"].values, subject)
    table = known.isel(voxel=rows).drop_vars("ncsnr", errors="ignore")
    if job.noise:
        gain, noise = abs(model["gain"].values), model["noise_std"].values
        table["ncsnr"] = ("voxel", np.divide(gain, noise, out=np.zeros_like(gain), where=noise > 0))
    return table.set_coords(list(table.variables)).drop_attrs(deep=False)
