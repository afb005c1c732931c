"""Feature-weighted receptive fields as tasks: features once per image, then each subject by blocks of candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nsdflow.analysis import split_counts
from nsdflow.engine.compute import choose_device, torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.fit.fwrf import FwrfPartial, FwrfResult, FwrfSettings, combine, predict, search, solve
from nsdflow.fit.fwrf.trials import sum_trials
from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.fit.statistics import correlate_columns
from nsdflow.fit.streams import seed_of
from nsdflow.io.tensors import load_tensors, save_tensors
from nsdflow.models.networks import record_of
from nsdflow.models.networks.travel import pack_network
from nsdflow.models.saved.parts import pack_about
from nsdflow.names import select_subjects
from nsdflow.pipelines.common.data import (
    SubjectTrials,
    check_voxels,
    chosen_sessions,
    listed_images,
    load_images,
    query_of,
    trials_of,
)
from nsdflow.pipelines.common.evaluation import validation_accuracy
from nsdflow.pipelines.common.networks import check_network, keep_network, network_of
from nsdflow.pipelines.fwrf.features import (
    FeatureFolder,
    FeatureSizes,
    candidate_numbers,
    candidate_table,
    candidates_of,
    layer_names,
    sizes_of,
)
from nsdflow.pipelines.fwrf.settings import FwrfPipeline  # a field of jobs
from nsdflow.pipelines.gnet.training import load_split
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import PublishPartsJob, join_parts, open_parts, write_part
from nsdflow.store import Store, open_store

__all__ = [
    "FeaturesJob",
    "FitJob",
    "PublishFwrfJob",
    "compute_features",
    "create_features",
    "plan_fwrf",
    "publish_fwrf",
    "search_block",
    "solve_subject",
]

#: Arrays of the results that a saved model holds, besides the fields.
WEIGHTS = ("weights", "bias", "feature_mean", "feature_std")
#: Images per block of features.
BLOCK_IMAGES = 256
#: Largest number of bytes for the blocks of a search or a solution on a CPU. On a GPU they use the free memory.
WORK_BYTES = 2 << 30


def plan_fwrf(pipeline: FwrfPipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan features by images, a search per subject and block of candidates, a solution per subject, publication."""
    opened = open_store(store)
    subjects = select_subjects(opened.subjects, pipeline.subjects)
    sizes = sizes_of(pipeline, opened.images().sizes["x"])
    shown = {subject: len(np.unique(_trials(pipeline, opened, subject)["nsd_id"])) for subject in subjects}
    images = len(feature_images(pipeline, opened, subjects, sizes))
    check_network(folder, pipeline)
    create = Task(
        "create",
        create_features,
        FeaturesJob(pipeline, store, folder.path, sizes),
        "create",
        memory=Memory.with_torch(network=record_of(pipeline.features).memory),
        files=4,
    )
    blocks = [
        Task(
            f"features-{start:05d}",
            compute_features,
            FeaturesJob(pipeline, store, folder.path, sizes, start),
            "features",
            after=("create",),
            pool="gpu",
            memory=Memory.with_torch(
                feature_maps=2 * BLOCK_IMAGES * sizes.map_bytes,
                pooled_features=2 * BLOCK_IMAGES * sizes.pooled_bytes,
            ),
            writes=min(BLOCK_IMAGES, images - start) * sizes.bytes,
        )
        for start in range(0, images, BLOCK_IMAGES)
    ]
    fits: list[Task] = []
    for subject in subjects:
        query = opened.explain(subject, **query_of(pipeline, opened, subject))
        check_voxels(opened, subject, query.shape[1], pipeline.selection())
        reads = query.bytes + shown[subject] * sizes.bytes
        memory = Memory.with_torch(
            solver=WORK_BYTES,
            responses=3 * query.result_bytes,
            features=2 * shown[subject] * sizes.bytes,
        )
        searches = [
            Task(
                f"search-{subject}-{start:05d}",
                search_block,
                FitJob(pipeline, store, folder.path, sizes, subject, start),
                "search",
                after=tuple(block.key for block in blocks),
                pool="gpu",
                memory=memory,
                reads=reads,
            )
            for start in range(0, sizes.candidates, pipeline.candidates_per_task)
        ]
        keys = tuple(search.key for search in searches)
        solution = Task(
            f"solve-{subject}",
            solve_subject,
            FitJob(pipeline, store, folder.path, sizes, subject),
            "solve",
            after=keys,
            pool="gpu",
            memory=memory,
            reads=reads,
        )
        fits += [*searches, solution]
    publish = publication(
        publish_fwrf,
        PublishFwrfJob(pipeline, store, folder.path, tuple(subjects)),
        [fit for fit in fits if fit.stage == "solve"],
        memory=Memory.with_torch(network=record_of(pipeline.features).memory),
    )
    note = f"{sizes.candidates} candidates x {pipeline.lambdas} lambdas, features kept as {sizes.kept}"
    return Plan(f"{pipeline.name}: fit and publish", folder.path, (create, *blocks, *fits, publish), notes=(note,))


@dataclass(frozen=True)
class FeaturesJob:
    """Features of one block of images."""

    pipeline: FwrfPipeline
    store: str
    folder: str
    sizes: FeatureSizes
    start: int = 0
    """First image of the block."""


@dataclass(frozen=True)
class FitJob:
    """Search of one block of candidates for one subject, or the subject's solution."""

    pipeline: FwrfPipeline
    store: str
    folder: str
    sizes: FeatureSizes
    subject: str
    start: int = 0
    """First candidate of the block."""


@dataclass(frozen=True)
class PublishFwrfJob:
    """The results of all subjects."""

    pipeline: FwrfPipeline
    store: str
    folder: str
    subjects: tuple[str, ...]


@task("fwrf.publish", version=1)
def publish_fwrf(job: PublishFwrfJob) -> dict[str, Any]:
    """Keep network and readouts of all subjects in ``model.safetensors``, and publish."""
    config, folder = job.pipeline, RunFolder(job.folder)
    network, names = network_of(config), layer_names(config)
    about, tensors = pack_network(network)
    said = {"kind": "fwrf", "subjects": list(job.subjects), "nonlinearity": config.nonlinearity, "network": about}
    state = pack_about(said) | {f"network.{name}": tensor for name, tensor in tensors.items()}
    for subject, tree in open_parts(job.folder, job.subjects).items():
        results = tree[subject].to_dataset().load()
        fields = torch.from_numpy(candidates_of(config))[candidate_numbers(config, results)]
        values = {name: torch.from_numpy(results[name].values) for name in WEIGHTS}
        layer = torch.tensor([names.index(name) for name in results["layer"].values.tolist()])
        channels = {"layer": layer, "channel": torch.from_numpy(results["channel"].values)}
        state |= {f"{subject}.{name}": tensor for name, tensor in {"rf": fields, **values, **channels}.items()}
    save_tensors(folder.url("model.safetensors"), state)
    return join_parts(PublishPartsJob(job.folder, job.store, job.subjects), {"candidates": candidate_table(config)})


@task("fwrf.create", version=2)
def create_features(job: FeaturesJob) -> None:
    """Record the network, and create the arrays that :func:`compute_features` fills."""
    config, opened = job.pipeline, open_store(job.store)
    keep_network(RunFolder(job.folder), network_of(config))
    images = feature_images(config, opened, select_subjects(opened.subjects, config.subjects), job.sizes)
    FeatureFolder.of(config, job.folder, job.sizes).create(len(images), BLOCK_IMAGES)


@task("fwrf.features", version=1)
def compute_features(job: FeaturesJob) -> None:
    """Compute and keep the features of one block of images."""
    config, opened = job.pipeline, open_store(job.store)
    whole = feature_images(config, opened, select_subjects(opened.subjects, config.subjects), job.sizes)
    ids = whole[job.start : job.start + BLOCK_IMAGES]
    images = load_images(opened, ids)
    with torch_threads(config.threads, share=2):
        FeatureFolder.of(config, job.folder, job.sizes).write(
            network_of(config), images, job.start, choose_device(config.device)
        )


@task("fwrf.search", version=1)
def search_block(job: FitJob) -> None:
    """Score a block of candidates for one subject and keep the best of each voxel."""
    config = job.pipeline
    data = _SubjectData(job)
    block = range(job.start, min(job.start + config.candidates_per_task, len(data.features.candidates)))
    with torch_threads(config.threads, share=2):
        partial = search(data.features, data.sums, data.settings, block=block, **data.where)
    state = {"loss": partial.loss, "candidate": partial.candidate, "lambda_index": partial.lambda_index}
    save_tensors(_partial(job.folder, job.subject, job.start), state)


@task("fwrf.solve", version=2)
def solve_subject(job: FitJob) -> dict[str, Any]:
    """Combine the blocks of a subject, solve for the weights of the best fields, evaluate, and keep the results."""
    config = job.pipeline
    data = _SubjectData(job)
    count, step = len(data.features.candidates), config.candidates_per_task
    partials = []
    for start in range(0, count, step):
        state = load_tensors(_partial(job.folder, job.subject, start))
        block = range(start, min(start + step, count))
        partials.append(FwrfPartial(block, state["loss"], state["candidate"], state["lambda_index"]))
    with torch_threads(config.threads, share=2):
        result = solve(data.features, data.sums, data.settings, combine(partials), **data.where)
        shared = data.trials.shared
        shown = np.unique(data.trials.nsd_id[shared])
        predictions = data.predict(result, shown)
        held_out = data.holdout_accuracy(result)
    trials = data.trials
    variables = {**xr.Dataset(result.arrays()).data_vars} | validation_accuracy(
        predictions, shown, trials.responses[shared], trials.nsd_id[shared], trials.voxels.get("ncsnr"),
        resamples=config.bootstrap, seed=seed_of(config.seed, config.kind, "bootstrap", job.subject),
        repetitions=None if trials.repetitions is None else trials.repetitions[shared],
    )  # fmt: skip
    variables["holdout_accuracy"] = xr.DataArray(held_out, dims="voxel")
    coords = {
        **data.trials.voxels.coords,
        "layer": ("feature", np.asarray(layer_names(config))[data.origin.layer]),
        "channel": ("feature", data.origin.channel),
        "parameter": ["x", "y", "sigma"],
    }
    attrs = {
        **data.trials.attrs,
        **split_counts(data.trials.nsd_id, data.trials.shared, data.holdout),
        "image_size": data.image_size,
        "lambdas": list(data.settings.lambdas),
    }
    results = xr.Dataset(variables).assign_coords(coords).assign_attrs(attrs)
    write_part(job.folder, job.subject, {job.subject: results})
    return {"median_accuracy": float(results["accuracy"].median())}


class _SubjectData:
    """Input of a search or a solution of one subject, in memory."""

    def __init__(self, job: FitJob) -> None:
        config, store = job.pipeline, open_store(job.store)
        only = config.model_copy(update={"subjects": (job.subject,)})
        self.trials: SubjectTrials
        ((self.trials, holdout),) = load_split(only, store, config.holdout_fraction)
        self.nsd_ids = np.unique(self.trials.nsd_id)
        subjects = select_subjects(store.subjects, config.subjects)
        everything = feature_images(config, store, subjects, job.sizes)
        rows = np.searchsorted(everything, self.nsd_ids)
        training = ~self.trials.shared
        training_only = PROTOCOLS[config.protocol].training_only
        if training_only:
            selected_on = np.unique(self.trials.nsd_id[training][~holdout])
        else:  # concatenated lists: a shared image counts once per subject
            selected_on = np.concatenate([_listed(config, store, name) for name in subjects])
        positions = np.searchsorted(everything, selected_on)
        self.features, self.origin = FeatureFolder.of(config, job.folder, job.sizes).read(rows, positions)
        self.holdout = holdout
        self.image_size = int(store.images().sizes["x"])
        self.settings = FwrfSettings(
            lambdas=config.grid(),
            zscore=config.zscore,
            bias=config.bias,
            nonlinearity=config.nonlinearity,
            statistics="training" if training_only else "all",
        )
        self.sums = sum_trials(
            torch.from_numpy(np.searchsorted(self.nsd_ids, self.trials.nsd_id[training])),
            torch.from_numpy(self.trials.responses[training]),
            torch.from_numpy(holdout),
            statistics=self.settings.statistics,
        )
        device = choose_device(config.device)
        self.where: dict[str, Any] = {"device": device, "memory": WORK_BYTES if device.type == "cpu" else None}

    def predict(self, result: FwrfResult, nsd_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Predictions (image, voxel) of some of the subject's images."""
        rows = torch.from_numpy(np.searchsorted(self.nsd_ids, nsd_ids))
        return predict(result, self.features, images=rows, device=self.where["device"]).numpy()

    def holdout_accuracy(self, result: FwrfResult) -> NDArray[np.float32]:
        """Correlation (voxel,) over holdout trials."""
        rows = np.flatnonzero(~self.trials.shared)[self.holdout]
        images, of_trial = np.unique(self.trials.nsd_id[rows], return_inverse=True)
        predicted = torch.from_numpy(self.predict(result, images)[of_trial])
        measured = torch.from_numpy(self.trials.responses[rows])
        return correlate_columns(predicted, measured).numpy().astype(np.float32)


def feature_images(
    config: FwrfPipeline, store: Store, subjects: tuple[str, ...], sizes: FeatureSizes
) -> NDArray[np.int64]:
    """Images whose features a run needs, ascending: those of trials, and of lists to select channels as published."""
    shown = [_trials(config, store, subject)["nsd_id"].values for subject in subjects]
    if not PROTOCOLS[config.protocol].training_only and max(sizes.layers) > config.max_features_per_layer:
        shown += [_listed(config, store, subject) for subject in subjects]
    return np.unique(np.concatenate(shown)).astype(np.int64)


def _trials(config: FwrfPipeline, store: Store, subject: str) -> xr.Dataset:
    return trials_of(store, subject, chosen_sessions(config, store, subject))


def _listed(config: FwrfPipeline, store: Store, subject: str) -> NDArray[np.int64]:
    return listed_images(store, subject, chosen_sessions(config, store, subject)).nsd_id


def _partial(folder: str, subject: str, start: int) -> str:
    return f"{folder}/parts/candidates/{subject}-{start:05d}.safetensors"
