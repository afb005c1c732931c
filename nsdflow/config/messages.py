"""Messages about the mistakes of a YAML file: where a setting was written, what is wrong, what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, get_args, get_origin

import yaml
from pydantic import BaseModel

from nsdflow.config.documents import Document

__all__ = ["line_numbers", "problems_of", "setting_place"]

#: A message lists all keys if there are at most this many, otherwise the nearest three.
MOST_KEYS: Final = 12


def problems_of(items: Iterable[Any], document: Document, model: type[BaseModel]) -> list[str]:
    """One line per mistake: its place, its cause, and the line to write instead."""
    lines = line_numbers(document.text)
    problems = []
    for item in items:
        path = [str(part) for part in item["loc"] if part in _keys(document.raw) or not _is_tag(part)]
        given = _override(document, ".".join(path)) is not None
        problems.append(f"{setting_place(document, lines, '.'.join(path))}: {_say(item, path, model, given=given)}")
    return list(dict.fromkeys(problems))


def _say(item: Any, path: list[str], model: type[BaseModel], *, given: bool) -> str:
    """What is wrong and what to write; ``given`` by ``--set``."""
    kind, message = item["type"], str(item["msg"]).removeprefix("Value error, ")
    section = _section(model, path[:-1])
    fields = section.model_fields if section else {}
    if kind == "string_pattern_mismatch" and path[-1:] == ["name"]:
        written = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(item["input"])).strip("_.-") or "my_run"
        return f"letters, digits, . _ - only, got {item['input']!r}; write {written}"
    if kind in ("model_type", "model_attributes_type") and path[:1] == ["steps"]:
        return f"not a mapping, got {item['input']!r}; write - pipeline: {item['input']}"
    if kind in ("model_type", "model_attributes_type"):
        return f"a section, got {item['input']!r}; write {path[-1]}: and its settings indented below"
    if kind == "missing":
        return f"missing; write {path[-1]}: ..."
    if kind == "extra_forbidden":
        if (home := _home(model, path)) is not None:
            there = f"under {home}:" if home else "at the top level of the file"
            by_option = f"; write --set {f'{home}.{path[-1]}'.lstrip('.')}=..." if given else ""
            return f"{path[-1]} belongs {there}{by_option}"
        near = get_close_matches(path[-1], fields, n=1)
        nearest = get_close_matches(path[-1], fields, n=3, cutoff=0) if len(fields) > MOST_KEYS else [*fields]
        more = f" (of {len(fields)})" if len(fields) > MOST_KEYS else ""
        known = f"{'nearest' if more else 'available'}: {', '.join(nearest)}{more}"
        return f"no such key; did you mean {near[0]!r}?" if near else f"no such key; {known}"
    if kind == "string_type":
        return f"a text, got {item['input']!r}; write {_as_text(path, item['input'])}"
    field = fields.get(path[-1]) if path else None
    if field is None or field.is_required():
        return message
    if kind in ("tuple_type", "list_type"):
        example = ", ".join(field.default or (("V1", "V2") if "roi" in path[-1] else ("NAME",)))
        return f"a list of names, got {item['input']!r}; write for example {path[-1]}: [{example}]"
    default = field.default.model_dump() if isinstance(field.default, BaseModel) else field.default
    written = yaml.safe_dump({path[-1]: default}, default_flow_style=True, width=10_000).strip()[1:-1]
    return f"{message}, got {item['input']!r}; write for example {written}"


def _as_text(path: list[str], value: Any) -> str:
    """A value as YAML that is a text; for a list, only the value."""
    quoted = "NAME" if value is None or isinstance(value, Mapping | list) else f"'{value}'"
    return quoted if path[-1].isdigit() else f"{path[-1]}: {quoted}"


def _home(model: type[BaseModel], path: list[str]) -> str | None:
    """The section to which a misplaced key belongs; empty for the top level of the file, None for an unknown key."""
    key, sections = path[-1], {}
    for name, known in model.model_fields.items():
        if isinstance(known.annotation, type) and issubclass(known.annotation, BaseModel):
            sections[name] = known.annotation
    if len(path) > 1 and key in model.model_fields:
        return ""
    return next((name for name, section in sections.items() if key in section.model_fields), None)


def _is_tag(part: Any) -> bool:
    """Whether a part of a location is pydantic's name of a branch of a union, not a key."""
    return isinstance(part, str) and ("[" in part or part in ("str", "literal"))


def _keys(raw: Any) -> set[Any]:
    if isinstance(raw, Mapping):
        return set(raw).union(*(_keys(value) for value in raw.values()))
    return set()


def _section(model: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    """The record that a dotted path leads into."""
    section: Any = model
    for part in (part for part in path if not part.isdigit()):  # a number is the index of an item in a list of sections
        field = section.model_fields.get(part) if section else None
        section = next((one for one in (_inner(field.annotation) if field else ()) if isinstance(one, type)), None)
    return section if isinstance(section, type) and issubclass(section, BaseModel) else None


def _inner(annotation: Any) -> tuple[Any, ...]:
    """A type, or the type of the items of a tuple."""
    return get_args(annotation)[:1] if get_origin(annotation) is tuple else (annotation,)


def line_numbers(text: str) -> dict[str, int]:
    """Line of every dotted key of a YAML text, from 1."""
    lines: dict[str, int] = {}

    def walk(node: yaml.Node | None, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                dotted = f"{prefix}{key.value}"
                lines[dotted] = key.start_mark.line + 1
                walk(value, dotted + ".")

    walk(yaml.compose(text, Loader=yaml.SafeLoader), "")
    return lines


def setting_place(document: Document, lines: Mapping[str, int], dotted: str) -> str:
    """Where a setting was written: ``--set rois=V9``, or ``line 9: rois``."""
    override = _override(document, dotted)
    if override is not None:
        given = yaml.safe_dump(document.overrides[override], default_flow_style=True, width=10_000)
        return f"--set {override}={given.strip().removesuffix('...').strip()}"
    written = next((place for place in _upwards(dotted) if place in lines), None)
    at = f"line {lines[written]}: " if written else ""
    _, *path = dotted.split(".")
    if dotted.startswith("steps.") and path[0].isdigit():
        dotted = " ".join([f"step {int(path[0]) + 1}", *path[1:]])
    return f"{at}{dotted or 'the file'}"


def _override(document: Document, dotted: str) -> str | None:
    """The key of ``--set`` that gave a setting."""
    return next((key for key in document.overrides if dotted == key or dotted.startswith(f"{key}.")), None)


def _upwards(dotted: str) -> Iterator[str]:
    """A dotted key, then the sections that hold it."""
    while dotted:
        yield dotted
        dotted = dotted.rpartition(".")[0]
