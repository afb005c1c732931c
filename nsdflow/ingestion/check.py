"""``nsdflow check``: what of NSD is there, for the library's own needs or those of a pipeline, as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dask.utils import format_bytes

from nsdflow.config import load_pipeline
from nsdflow.config.pipeline import FpfPipeline, FwrfPipeline, GNetPipeline, Pipeline, SequencePipeline
from nsdflow.engine.compute import weights_cache
from nsdflow.models.networks.weights import ALEXNET_URL
from nsdflow.names import DEFAULT_BETAS, DEFAULT_SPACE
from nsdflow.nsd.inventory import Inventory, SubjectInventory, list_betas, take_inventory
from nsdflow.nsd.source import open_source

__all__ = ["describe_source"]

#: Settings that name a run from which a pipeline starts.
RUNS: Final = ("model", "trunks", "predictions")


def describe_source(
    source: str, *, pipeline: str | None = None, space: str | None = None, betas: str | None = None
) -> str:
    """A page on a source: subjects, sessions, shapes and sizes, then what is missing.

    With a pipeline, its subjects alone, and what it needs beside NSD: weights, and runs that come before it.

    Raises
    ------
    MissingDataError
        If there are no betas at all.
    SelectionError
        If the space, the version of the betas or a subject that the pipeline asks for is not there.
    """
    wanted = None if pipeline is None else load_pipeline(pipeline)
    named = getattr(wanted, "subjects", "all")
    subjects = None if named == "all" else named
    origin = open_source(source)
    inventory = take_inventory(origin, space=space or DEFAULT_SPACE, betas=betas or DEFAULT_BETAS, subjects=subjects)
    first = inventory.subjects[0]
    lines = [f"{source}: {first.betas} in {first.space}"]
    lines += [_subject_line(subject) for subject in inventory.subjects]
    lines += [_images_line(inventory), f"in all {format_bytes(inventory.bytes)}"]
    others = [name for name in list_betas(origin, first.subject) if name != f"{first.space}/{first.betas}"]
    if others:
        lines.append(f"other betas of {first.subject}, for --space and --betas: {', '.join(others)}")
    lines += [f"missing: {path}" for path in inventory.missing]
    if not inventory.missing:
        lines.append("complete: everything that ingestion reads is there")
    if wanted is not None:
        lines += _needs(wanted)
    return "\n".join(lines)


def _needs(pipeline: Pipeline) -> Iterator[str]:
    """What a pipeline needs beside NSD."""
    name = pipeline.name
    if isinstance(pipeline, SequencePipeline):
        yield f"{name} runs in turn: {', '.join(step.pipeline for step in pipeline.steps)}; --pipeline checks each"
    for run in (getattr(pipeline, field) for field in RUNS if hasattr(pipeline, field)):
        yield f"{name} starts from the run {run}: finish that first"
    match pipeline:
        case GNetPipeline(prefilter="alexnet"):
            yield _weights_line(name, pipeline.prefilter_weights, "prefilter_weights")
        case FpfPipeline() | FwrfPipeline(features="alexnet"):
            yield _weights_line(name, pipeline.feature_weights, "feature_weights")


def _weights_line(name: str, given: str | None, setting: str) -> str:
    """Where a pipeline finds AlexNet's weights, if it does."""
    file = Path(given) if given is not None else weights_cache() / Path(ALEXNET_URL).name
    if file.is_file():
        return f"{name} finds AlexNet's weights in {file}"
    if given is not None:
        return f"missing: {file}, AlexNet's weights for {name}"
    return f"{name} will fetch AlexNet's weights from {ALEXNET_URL}; without network: --set {setting}=FILE"


def _subject_line(subject: SubjectInventory) -> str:
    shape = " x ".join(str(size) for size in subject.shape)
    held_out = f", {len(subject.held_out)} sessions not public" if subject.held_out else ""
    return (
        f"  {subject.subject}: {len(subject.sessions)} sessions x {subject.trials} trials{held_out}, "
        f"{shape} voxels, {subject.format}, {format_bytes(subject.bytes)}; atlases: {', '.join(subject.atlases)}"
    )


def _images_line(inventory: Inventory) -> str:
    if not inventory.image_count:
        return "  images: none"
    y, x, _ = inventory.image_shape
    return f"  images: {inventory.image_count:,} of {x} x {y} pixels"
