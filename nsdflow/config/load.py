"""From YAML to validated records: files by name, overrides, and **all** mistakes at once with their corrections."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from nsdflow.config.documents import Document, read_document
from nsdflow.config.messages import line_numbers, problems_of, setting_place
from nsdflow.config.storage import StorageProfile
from nsdflow.errors import ConfigError, NsdflowError, SelectionError

__all__ = ["load_storage", "parse_overrides", "validate"]

Model = TypeVar("Model", bound=BaseModel)

#: Validations of one file. Each one removes the mistakes that the earlier ones found.
MOST_ROUNDS: Final = 4
#: Value of a missing setting while validation looks for other mistakes.
PLACEHOLDER: Final = "missing"


def validate(
    document: Document, model: type[Model], check: Callable[[Model], Iterable[tuple[str, str]]] | None = None
) -> Model:
    """Turn a document into a record.

    Parameters
    ----------
    document : Document
        The contents.
    model : type
        Class of the record.
    check : callable, optional
        Compares the record with data, and returns the settings that do not fit, each with the reason. Invalid settings
        have their defaults in this record.

    Raises
    ------
    ConfigError
        Lists every problem at once, each with its line and its correction.
    SelectionError
        The document is valid, but does not fit the data.
    """
    problems = list(document.problems)
    raw: dict[str, Any] = copy.deepcopy(dict(document.raw))
    record: Model | None = None
    removed: set[tuple[int | str, ...]] = set()
    for _ in range(MOST_ROUNDS):
        try:
            record = model.model_validate(raw)
        except ValidationError as error:
            items = error.errors()
            removed |= {item["loc"][:length] for item in items for length in range(1, len(item["loc"]))}
            ours = {item["loc"] for item in items if item["type"] in ("missing", "too_short")} & removed
            new = problems_of([item for item in items if item["loc"] not in ours], document, model)
            problems += [line for line in new if line not in problems]
            # a check of several settings runs only when each of them is valid alone
            removed |= {item["loc"] for item in items}
            taken_out = [_without(raw, item["loc"]) or _without_named(raw, item["msg"]) for item in items]
            if not all(taken_out):
                break
        else:
            break
    misfits = _misfits(record, document, check, alone=not problems) if record is not None and check else []
    if problems:
        raise ConfigError(document.where, [*problems, *misfits])
    if misfits:
        raise SelectionError(str(ConfigError(document.where, misfits)))
    assert record is not None
    return record


def _misfits(
    record: Model, document: Document, check: Callable[[Model], Iterable[tuple[str, str]]], *, alone: bool
) -> list[str]:
    """Lines for settings that do not fit the data. An error of the data themselves is raised if it is ``alone``."""
    lines = line_numbers(document.text)
    try:
        found = list(check(record))
    except NsdflowError as error:
        if alone:
            raise
        return [str(error)]
    return [f"{setting_place(document, lines, setting)}: {reason}" for setting, reason in found]


def _without(raw: dict[str, Any], location: Sequence[Any]) -> bool:
    """Remove the value at a location from nested mappings, or its section; return False if neither exists."""
    level: Any = raw
    for part in location[:-1]:
        inner = level.get(part) if isinstance(level, dict) else None
        if not isinstance(inner, dict):
            return isinstance(level, dict) and level.pop(part, None) is not None
        level = inner
    if not location or not isinstance(level, dict):
        return False
    if location[-1] not in level:
        level[location[-1]] = PLACEHOLDER  # a setting that is missing
    elif level[location[-1]] == PLACEHOLDER:
        return False
    else:
        del level[location[-1]]
    return True


def _without_named(raw: dict[str, Any], message: str) -> bool:
    """Remove the settings that a check of several settings names; return False if it names none."""
    named = [key for key in raw if key != "kind" and re.search(rf"\b{re.escape(str(key))}\b", message)]
    for key in named:
        del raw[key]
    return bool(named)


def load_storage(profile: str | os.PathLike[str]) -> StorageProfile:
    """Load a storage profile by name or file, and substitute ``${VARIABLES}`` of the environment.

    Raises
    ------
    ConfigError
        Lists every problem at once.
    SelectionError
        There is no profile of that name.
    """
    document = read_document(profile, folder="storage_config", kind="storage profile")
    unset = sorted({name for value in document.raw.values() for name in _unset_variables(value)})
    lacking = [f"the environment has no {name}; export {name}=..." for name in unset]
    filled = {
        key: os.path.expandvars(value) if isinstance(value, str) else value
        for key, value in document.raw.items()
        if not _unset_variables(value)  # already reported above
    }
    return validate(replace(document, raw=filled, problems=(*document.problems, *lacking)), StorageProfile)


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """``["train.epochs=2", "subjects=[1,2]"]`` -> ``{"train.epochs": 2, "subjects": [1, 2]}``; values are YAML."""
    overrides, problems = {}, []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            problems.append(f"{assignment!r} is not key=value; write for example train.epochs=2")
            continue
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            problems.append(f"the value of {assignment!r} is not YAML; quote it")
    if problems:
        raise ConfigError("--set", problems)
    return overrides


def _unset_variables(value: Any) -> list[str]:
    if not isinstance(value, str):
        return []
    names = re.findall(r"\$\{(\w+)\}|\$(\w+)", value)
    return [a or b for a, b in names if (a or b) not in os.environ]
