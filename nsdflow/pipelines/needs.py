"""Inputs of a pipeline other than NSD, for ``nsdflow check --pipeline``: earlier runs and files of weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nsdflow.config.pipeline import PipelineBase
from nsdflow.engine.compute import weights_cache
from nsdflow.errors import MissingDataError
from nsdflow.ingestion.check import describe_source
from nsdflow.models.networks import record_of
from nsdflow.pipelines.load import load_pipeline
from nsdflow.pipelines.sequence import SequencePipeline

__all__ = ["check_source", "check_weights", "describe_needs"]


#: Names of networks in prose.
WEIGHT_NAMES = {"alexnet": "AlexNet"}


def check_source(
    source: str, *, pipeline: str | None = None, space: str | None = None, betas: str | None = None
) -> str:
    """Describe a source of NSD; with a pipeline, only its subjects, and the inputs that it needs besides NSD.

    Raises
    ------
    ConfigError
        The pipeline has mistakes.
    MissingDataError
        The source has no betas.
    SelectionError
        The space, the version of the betas, a subject or the pipeline does not exist.
    """
    if pipeline is None:
        return describe_source(source, space=space, betas=betas)
    config = load_pipeline(pipeline)
    named = getattr(config, "subjects", "all")
    subjects = None if named == "all" else named
    return describe_source(source, subjects=subjects, needs=describe_needs(config), space=space, betas=betas)


def describe_needs(pipeline: PipelineBase) -> Iterator[str]:
    """One line per input that a pipeline needs besides NSD."""
    name = pipeline.name
    if isinstance(pipeline, SequencePipeline):
        yield f"{name} runs in turn: {', '.join(step.pipeline for step in pipeline.steps)}; --pipeline checks each"
    for run in pipeline.earlier_runs():
        yield f"{name} starts from the run {run}: finish that first"
    for setting, network in pipeline.pretrained().items():
        yield _weights_line(name, network, getattr(pipeline, setting), setting)


def check_weights(pipeline: PipelineBase) -> None:
    """Look for the file of weights that a pipeline names, before anything runs.

    Raises
    ------
    MissingDataError
        There is no such file.
    """
    for setting, network in pipeline.pretrained().items():
        given, published = getattr(pipeline, setting), record_of(network).published
        if given is not None and published is not None and not Path(given).is_file():
            raise MissingDataError(f"{given}: no such file; give torchvision's {Path(published).name}")


def _weights_line(name: str, network: str, given: str | None, setting: str) -> str:
    """Location of a network's weights, or the file that is missing."""
    published = record_of(network).published
    called = WEIGHT_NAMES.get(network, network)
    if given is None and published is None:
        return f"{name} takes the weights of {network} from its library, which fetches them; --set {setting}=FILE"
    file = Path(given) if given is not None else weights_cache() / Path(str(published)).name
    if file.is_file():
        return f"{name} finds {called}'s weights in {file}"
    if given is not None:
        return f"missing: {file}, {called}'s weights for {name}"
    return f"{name} will fetch {called}'s weights from {published}; without network: --set {setting}=FILE"
