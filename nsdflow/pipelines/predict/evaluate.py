"""A finished run on the sister experiments: accuracy by class of image, against the ceiling of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from pydantic import Field, field_validator

from nsdflow.analysis import accuracy_by_class
from nsdflow.config.pipeline import PipelineBase, Subjects
from nsdflow.engine.compute import choose_device, read_here, torch_threads
from nsdflow.engine.memory import Memory
from nsdflow.engine.plan import Plan, Task, publication, task
from nsdflow.errors import MissingDataError, one_of
from nsdflow.fit.protocols import PROTOCOLS
from nsdflow.nsd.experiments import EXPERIMENTS, SisterExperiment, parse_experiments
from nsdflow.pipelines.common.data import load_images, read_responses
from nsdflow.pipelines.common.earlier import input_subjects
from nsdflow.pipelines.predict.predictors import load_predictor, predictor_kind
from nsdflow.pipelines.predict.record import Predictor
from nsdflow.runs.folder import RunFolder
from nsdflow.runs.parts import PublishPartsJob, publish_parts, write_part
from nsdflow.store import Store, open_store
from nsdflow.store.voxels import labels_of, positions_of

__all__ = ["EvaluateJob", "EvaluatePipeline", "evaluate_subject", "plan_evaluate"]

#: The class of the main experiment, with which all others are compared.
SHARED = "shared images"


class EvaluatePipeline(PipelineBase):
    """Accuracy of a finished run by class of image, in the sister experiments and for the shared images."""

    kind: Literal["evaluate"] = "evaluate"
    model: str = "gnet8j"
    """The run to evaluate, of kind gnet, fwrf or fpf: its name among the runs, or a path."""
    experiments: Literal["all"] | tuple[str, ...] = "all"
    """``all`` that the store holds of a subject, or ``[synthetic, imagery]``."""
    subjects: Subjects = "all"
    batch_size: int = Field(100, ge=1)
    """Images per call of the network."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)

    @field_validator("experiments", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value == "all":
            return value
        try:
            return parse_experiments(value)
        except KeyError as error:
            raise ValueError(str(error)) from None

    def earlier_runs(self) -> tuple[str, ...]:
        return (self.model,)


@dataclass(frozen=True)
class EvaluateJob:
    """Evaluation of one subject."""

    pipeline: EvaluatePipeline
    store: str
    folder: str
    model: str
    """Folder of the run to evaluate."""
    subject: str
    experiments: tuple[str, ...]


def plan_evaluate(pipeline: EvaluatePipeline, *, store: str, folder: RunFolder) -> Plan:
    """Plan one GPU task per subject, and one that joins them.

    Raises
    ------
    MissingDataError
        The store holds no sister experiment of a subject, or no images.
    SelectionError
        It lacks a requested experiment.
    RunError
        The run is of a kind that predicts no images.
    """
    opened = open_store(store)
    model = folder.sibling(pipeline.model)
    subjects = input_subjects(model, opened, pipeline.subjects)
    network = predictor_kind(model).memory if model.exists("run.yaml") else 0
    pixels = 3 * opened.images().sizes["x"] ** 2
    tasks = []
    for subject in subjects:
        experiments = _experiments(pipeline, opened, subject)
        queries = [opened.explain(subject, experiment=name) for name in experiments]
        queries.append(opened.explain(subject, shared=True))
        most = max(query.result_bytes for query in queries)
        images = max(query.shape[0] for query in queries)
        tasks.append(
            Task(
                f"evaluate-{subject}",
                evaluate_subject,
                EvaluateJob(pipeline, store, folder.path, model.path, subject, experiments),
                "evaluate",
                pool="gpu",
                memory=Memory.with_torch(network=network, responses=5 * most, images=images * pixels),
                reads=sum(query.bytes for query in queries),
            )
        )
    job = PublishPartsJob(folder.path, store, subjects)
    publish = publication(publish_parts, job, tasks, memory=Memory.with_torch())
    note = f"of {model.path}; bytes and memory for all voxels of the store"
    return Plan(f"{pipeline.name}: evaluation by class of image", folder.path, (*tasks, publish), notes=(note,))


def _experiments(pipeline: EvaluatePipeline, store: Store, subject: str) -> tuple[str, ...]:
    there = store.experiments(subject)
    if not there:
        raise MissingDataError(
            f"{store.url}: no sister experiment of {subject}; ingest with --experiments synthetic,imagery"
        )
    for name in () if pipeline.experiments == "all" else pipeline.experiments:
        if name not in there:
            raise one_of(f"sister experiment of {subject} in {store.url}", name, there)
    return there if pipeline.experiments == "all" else pipeline.experiments


@task("evaluate.subject", version=2)
def evaluate_subject(job: EvaluateJob) -> dict[str, Any]:
    """Scores of one subject for the shared images and for every class of the sister experiments."""
    config, opened, subject = job.pipeline, open_store(job.store), job.subject
    predictor = load_predictor(RunFolder(job.model), subject)
    voxels = predictor.voxels
    place = positions_of(voxels["flat_index"].values, opened.voxels(subject)["flat_index"].values, subject)
    predictor = predictor.to(choose_device(config.device))
    with torch_threads(config.threads, share=2):
        parts = [_shared_images(job, opened, predictor, place)]
        parts += [_sister(job, opened, predictor, place, name) for name in job.experiments]
    scores = xr.concat(parts, "image_class", join="exact", combine_attrs="override")
    bare = scores.drop_vars([name for name, coordinate in scores.coords.items() if "voxel" in coordinate.dims])
    whole = bare.assign_coords(voxels.coords).assign_attrs(voxels.attrs)
    write_part(job.folder, subject, {subject: whole})
    return {"classes": whole["image_class"].values.tolist(), "voxels": whole.sizes["voxel"]}


def _shared_images(job: EvaluateJob, store: Store, predictor: Predictor, place: Any) -> xr.Dataset:
    """The main experiment: images of the kind that the model was trained on, none of which it saw."""
    responses = read_here(read_responses(store, job.subject, shared=True, voxels=place, zscore=_zscore(job)))
    ids = np.unique(responses["nsd_id"].values)
    predictions = _predict(job, predictor, load_images(store, ids), {"condition": ("image", ids)})
    scores = accuracy_by_class(predictions, responses.rename(nsd_id="condition"), {SHARED: ids})
    return _labelled(scores, "main", {SHARED: "within"})


def _sister(job: EvaluateJob, store: Store, predictor: Predictor, place: Any, experiment: str) -> xr.Dataset:
    """The classes of a sister experiment; a target that several images show is predicted by the mean over them."""
    record = EXPERIMENTS[experiment]
    zscore = _zscore(job)
    responses = read_here(store.responses(job.subject, voxels=place, experiment=experiment, zscore=zscore))
    responses = responses.isel(trial=np.flatnonzero(responses["condition"].values >= 0))
    images = store.images(subject=job.subject, experiment=experiment)
    predicted = _predict(job, predictor, read_here(images).values, {"target": ("image", images["target"].values)})
    by_target = predicted.groupby("target").mean()
    condition, first = np.unique(responses["condition"].values, return_index=True)
    target = responses["target"].values[first]
    predictions = by_target.sel(target=target).rename(target="image").assign_coords(condition=("image", condition))
    classes = _classes(record, responses["image_class"].isel(trial=first), condition)
    scores = accuracy_by_class(predictions.drop_vars("image"), responses, classes)
    return _labelled(scores, record.name, dict.fromkeys(record.within, "within"))


def _zscore(job: EvaluateJob) -> str | bool:
    """Z-scoring of the protocol with which the model was fitted."""
    protocol = RunFolder(job.model).record()["pipeline"].get("protocol", "published")
    return PROTOCOLS[protocol].evaluation_zscore


def _classes(record: SisterExperiment, image_class: xr.DataArray, condition: Any) -> dict[str, Any]:
    """Conditions of each class that has any, then those of the groups of classes."""
    numbers = labels_of(image_class.attrs)
    found = {
        name: condition[np.isin(image_class.values, numbers.get(name.replace(" ", "_"), ()))] for name in record.classes
    }
    whole = {name: np.concatenate([found[part] for part in parts]) for name, parts in record.together.items()}
    return {name: members for name, members in (found | whole).items() if len(members)}


def _predict(
    job: EvaluateJob, predictor: Predictor, images: Any, coords: Mapping[str, tuple[str, Any]]
) -> xr.DataArray:
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    predictor.check_size(pixels)
    values = predictor.predict(pixels, batch_size=job.pipeline.batch_size)
    return xr.DataArray(values, dims=("image", "voxel"), coords=dict(coords))


def _labelled(scores: xr.Dataset, experiment: str, within: Mapping[str, str]) -> xr.Dataset:
    """Scores with the experiment of each class, and whether its images are like those of the training."""
    names = [str(name) for name in scores["image_class"].values]
    return scores.assign_coords(
        experiment=("image_class", [experiment] * len(names)),
        distribution=("image_class", [within.get(name, "outside") for name in names]),
    )
