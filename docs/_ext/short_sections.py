"""Lets numpydoc draw sections that are written on one line.

Docstrings here put a short description on the line of its parameter (``roi : (voxel,) labels or names``), and say what
is returned in plain sentences, since types stand in the signature. numpydoc would take both for types.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ENTRY = re.compile(r"(?P<name>\*{0,2}\w+(, \*{0,2}\w+)*) : (?P<text>.+)")
TYPE = re.compile(r"(\{.*\}|[\w.\[\]| ]+)(, optional)?")


def sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The parts of a docstring: the heading (empty for what stands before the first) and the lines below it."""
    heading, body = "", list[str]()
    for number, line in enumerate(lines):
        if number + 1 < len(lines) and line and set(lines[number + 1]) == {"-"}:
            yield heading, body
            heading, body = line, []
        elif not (heading and not body and set(line) == {"-"}):
            body.append(line)
    yield heading, body


def parameters(body: list[str]) -> list[str]:
    """Entries whose text goes on after the name get the text below the name."""
    out: list[str] = []
    for number, line in enumerate(body):
        entry = ENTRY.fullmatch(line)
        below = body[number + 1].startswith(" ") if number + 1 < len(body) else False
        if entry and not (below and TYPE.fullmatch(entry["text"])):
            out += [entry["name"], f"    {entry['text']}"]
        else:
            out.append(line)
    return out


def returns(body: list[str], what: Any) -> list[str]:
    """Sentences get the annotated type as their heading."""
    if any(line.startswith(" ") for line in body) or not any(body):
        return body
    annotation = inspect.signature(what).return_annotation if callable(what) else inspect.Signature.empty
    kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "result")
    return [kind, *(f"    {line}" if line else "" for line in body)]


def rewrite(app: Sphinx, kind: str, name: str, what: Any, options: Any, lines: list[str]) -> None:
    """Rewrite one docstring in place, before numpydoc reads it."""
    out: list[str] = []
    for heading, body in sections(lines):
        shown = parameters(body) if heading in ("Parameters", "Attributes") else body
        shown = returns(body, what) if heading == "Returns" else shown
        out += [heading, "-" * len(heading), *shown] if heading else shown
    lines[:] = out


def setup(app: Sphinx) -> dict[str, bool]:
    """Come before numpydoc, which connects with the default priority of 500."""
    app.connect("autodoc-process-docstring", rewrite, priority=400)
    return {"parallel_read_safe": True}
