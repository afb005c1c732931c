"""Pipelines by name, file or mapping, validated by the settings of their kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from nsdflow.config.documents import Document, read_document, shipped_names
from nsdflow.config.load import validate
from nsdflow.config.messages import line_numbers, setting_place
from nsdflow.config.pipeline import PipelineBase
from nsdflow.errors import ConfigError, SelectionError
from nsdflow.pipelines.kinds import KINDS

__all__ = ["PipelineFiles", "load_pipeline", "pipeline_names"]


def pipeline_names() -> tuple[str, ...]:
    """Names of the pipelines that come with nsdflow."""
    return shipped_names("pipelines")


class PipelineFiles:
    """Loads pipelines and reads each file once.

    Parameters
    ----------
    check : callable, optional
        Compares a pipeline with a store, as for :func:`nsdflow.config.load.validate`.
    """

    def __init__(self, check: Callable[[PipelineBase], Iterable[tuple[str, str]]] | None = None) -> None:
        self._documents: dict[str, Document] = {}
        self._check = check

    def load(
        self,
        pipeline: str | os.PathLike[str] | Mapping[str, Any],
        overrides: Mapping[str, Any] | None = None,
        *,
        fit: bool = True,
    ) -> PipelineBase:
        """Load a pipeline; see :func:`load_pipeline`. With ``fit``, it is checked, too."""
        document, kind = _kind_of(self._document(pipeline).with_overrides(overrides or {}))
        return validate(document, KINDS[kind].settings, self._check if fit else None)

    def is_sequence(self, pipeline: str | os.PathLike[str] | Mapping[str, Any]) -> bool:
        """Whether a pipeline is a sequence of others; False for one that cannot be read, which loading refuses."""
        with suppress(ConfigError, SelectionError):
            return self._document(pipeline).raw.get("kind") == "sequence"
        return False

    def _document(self, pipeline: str | os.PathLike[str] | Mapping[str, Any]) -> Document:
        if isinstance(pipeline, Mapping):
            return read_document(pipeline, folder="pipelines", kind="pipeline")
        name = os.fspath(pipeline)
        if name not in self._documents:
            self._documents[name] = read_document(name, folder="pipelines", kind="pipeline")
        return self._documents[name]


def _kind_of(document: Document) -> tuple[Document, str]:
    """The kind of a pipeline. A misspelt one is a problem of the document, then read as one of the nearest kind.

    Raises
    ------
    ConfigError
        There is no kind, or none like it.
    """
    written = document.raw.get("kind")
    if written in KINDS:
        return document, str(written)
    near = get_close_matches(str(written), KINDS, n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"write kind: one of {', '.join(KINDS)}"
    place = setting_place(document, line_numbers(document.text), "kind")
    problems = (
        *document.problems,
        f"{place}: unknown kind {written!r}; {advice}" if written else f"kind: missing; {advice}",
    )
    if not near:
        raise ConfigError(document.where, problems)
    return replace(document, raw={**document.raw, "kind": near[0]}, problems=problems), near[0]


def load_pipeline(
    pipeline: str | os.PathLike[str] | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> PipelineBase:
    """Load a pipeline by name, file or mapping, with dotted overrides such as ``{"train.epochs": 2}``.

    Raises
    ------
    ConfigError
        Lists every problem at once, each with its line and its correction.
    SelectionError
        There is no pipeline of that name.
    """
    return PipelineFiles().load(pipeline, overrides)
