"""Pipelines and storage profiles, parsed once into frozen, validated records."""

from nsdflow.config.load import load_pipeline, load_storage, parse_overrides, pipeline_names, storage_names
from nsdflow.config.pipeline import FwrfPipeline, GNetPipeline, Pipeline, SequencePipeline, TrainSettings
from nsdflow.config.storage import Layout, StorageProfile

__all__ = [
    "FwrfPipeline",
    "GNetPipeline",
    "Layout",
    "Pipeline",
    "SequencePipeline",
    "StorageProfile",
    "TrainSettings",
    "load_pipeline",
    "load_storage",
    "parse_overrides",
    "pipeline_names",
    "storage_names",
]
