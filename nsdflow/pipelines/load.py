"""Pipelines by name, file or mapping, validated by the settings of their kind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nsdflow.config.load import read_document, shipped_names, validate
from nsdflow.errors import ConfigError
from nsdflow.pipelines.kinds import KINDS

if TYPE_CHECKING:
    from nsdflow.config.pipeline import PipelineBase

__all__ = ["load_pipeline", "pipeline_names"]


def pipeline_names() -> tuple[str, ...]:
    """Names of the pipelines that come with nsdflow."""
    return shipped_names("pipelines")


def load_pipeline(
    pipeline: str | os.PathLike[str] | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> PipelineBase:
    """Load a pipeline by name, file or mapping, with dotted overrides such as ``{"train.epochs": 2}``.

    Raises
    ------
    ConfigError
        Listing every problem at once, each with its line and what to write instead.
    SelectionError
        If there is no pipeline of that name.
    """
    document = read_document(pipeline, folder="pipelines", kind="pipeline").with_overrides(overrides or {})
    kind = KINDS.get(str(document.raw.get("kind")))
    if kind is None:
        raise ConfigError(document.where, [f"the file: write kind: one of {', '.join(KINDS)}"])
    return validate(document, kind.settings)
