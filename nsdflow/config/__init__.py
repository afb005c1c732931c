"""Settings: base classes of pipelines, storage profiles, and the reading of YAML files into frozen records."""

from nsdflow.config.documents import storage_names
from nsdflow.config.load import load_storage, parse_overrides
from nsdflow.config.pipeline import ModelPipeline, PipelineBase
from nsdflow.config.storage import Layout, StorageProfile

__all__ = [
    "Layout",
    "ModelPipeline",
    "PipelineBase",
    "StorageProfile",
    "load_storage",
    "parse_overrides",
    "storage_names",
]
