"""From YAML to validated records: files by name, overrides, and **all** mistakes at once with their corrections."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from nsdflow.config.messages import line_numbers, place_of, problems_of
from nsdflow.config.storage import StorageProfile
from nsdflow.errors import ConfigError, NsdflowError, SelectionError, one_of
from nsdflow.io.yaml_files import BoundedLoader

__all__ = [
    "Document",
    "load_storage",
    "parse_overrides",
    "read_document",
    "shipped_names",
    "storage_names",
    "validate",
]

Model = TypeVar("Model", bound=BaseModel)

#: Validations of one file. Each one removes the mistakes that the earlier ones found.
MOST_ROUNDS: Final = 4
#: Value of a missing setting while validation looks for other mistakes.
PLACEHOLDER: Final = "missing"


@dataclass(frozen=True)
class Document:
    """One YAML file, or a mapping in its place."""

    where: str
    """Name for messages: the file, or the shipped name."""
    text: str
    """Text from which messages take line numbers."""
    raw: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of ``--set`` by dotted key, which messages name in place of a line."""

    def with_overrides(self, overrides: Mapping[str, Any]) -> Document:
        """Return the document with dotted settings replaced.

        Raises
        ------
        ConfigError
            If a dotted key leads into a setting that is not a section.
        """
        return replace(self, raw=_with_overrides(self.where, dict(self.raw), overrides), overrides=dict(overrides))


def shipped_names(folder: str) -> tuple[str, ...]:
    """Names of the YAML files that come with nsdflow in ``folder``."""
    return tuple(sorted(path.stem for path in _folder(folder).glob("*.yaml")))


def storage_names() -> tuple[str, ...]:
    """Names of the storage profiles that come with nsdflow."""
    return shipped_names("storage_config")


def read_document(what: str | os.PathLike[str] | Mapping[str, Any], *, folder: str, kind: str) -> Document:
    """Read a shipped file by name, a file by path, or a mapping.

    Parameters
    ----------
    what : str, path or mapping
        Name, path that ends in ``.yaml`` or ``.yml``, or mapping.
    folder : str
        Folder of the shipped files, such as ``"pipelines"``.
    kind : str
        Word for the document in messages, such as ``"pipeline"``.

    Returns
    -------
    Document
        The contents, before validation.

    Raises
    ------
    ConfigError
        If the file cannot be read or is not a mapping.
    SelectionError
        If no shipped file has that name.
    """
    where, text = _read(what, folder, kind, shipped_names(folder))
    return Document(where, text, _parse(where, text))


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
        Compares the record with data, and returns the settings that do not fit, each with the reason. Settings that
        are wrong by themselves have their defaults in this record.

    Raises
    ------
    ConfigError
        Lists every problem at once, each with its line and its correction.
    SelectionError
        The document is right by itself, but does not fit the data.
    """
    problems: list[str] = []
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
    """Lines for what does not fit the data. An error of the data themselves is raised if it is ``alone``."""
    lines = line_numbers(document.text)
    try:
        found = list(check(record))
    except NsdflowError as error:
        if alone:
            raise
        return [str(error)]
    return [f"{place_of(document, lines, setting)}: {reason}" for setting, reason in found]


def _without(raw: dict[str, Any], location: Sequence[Any]) -> bool:
    """Remove the value at a location from nested mappings, or its section; return False where there is nothing."""
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
    """Remove the settings that a check of several settings names; return False where it names none."""
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
        If there is no profile of that name.
    """
    document = read_document(profile, folder="storage_config", kind="storage profile")
    unset = sorted({name for value in document.raw.values() for name in _unset_variables(value)})
    if unset:
        raise ConfigError(document.where, [f"the environment has no {name}; export {name}=..." for name in unset])
    filled = {
        key: os.path.expandvars(value) if isinstance(value, str) else value for key, value in document.raw.items()
    }
    return validate(replace(document, raw=filled), StorageProfile)


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


def _folder(name: str) -> Path:
    """Folder of shipped files: inside an installed package, or at the top of a checkout."""
    installed = Path(str(files("nsdflow"))) / "_data" / name
    return installed if installed.is_dir() else Path(str(files("nsdflow"))).parent / name


def _read(
    what: str | os.PathLike[str] | Mapping[str, Any], folder: str, kind: str, names: tuple[str, ...]
) -> tuple[str, str]:
    if isinstance(what, Mapping):
        return kind, yaml.safe_dump(dict(what), sort_keys=False)
    path = Path(what)
    if path.suffix not in (".yaml", ".yml"):
        if str(what) not in names:
            raise one_of(kind, what, names)
        path = _folder(folder) / f"{what}.yaml"
    try:
        return str(what), path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(str(path), [f"no such file; give a path, or a name such as {names[0]}"]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read ({error.strerror})"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"not UTF-8 ({error}); save it as UTF-8"]) from None


class _NoKeyTwice(BoundedLoader):
    """A loader that rejects duplicate keys; YAML would silently use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping whose keys all differ."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse(where: str, text: str) -> dict[str, Any]:
    try:
        raw = yaml.load(text, Loader=_NoKeyTwice)
    except yaml.constructor.ConstructorError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(where, [f"{line}{error.problem}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError(where, [f"not YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(raw, dict):
        raise ConfigError(where, ["not a mapping; write key: value on each line"])
    return raw


def _with_overrides(where: str, raw: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(raw)
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        level = merged
        for parent in parents:
            inner = level.get(parent)
            if inner is not None and not isinstance(inner, Mapping):
                raise ConfigError(where, [f"--set {dotted}: {parent} is not a section"])
            level[parent] = dict(inner or {})
            level = level[parent]
        level[last] = value
    return merged


def _unset_variables(value: Any) -> list[str]:
    if not isinstance(value, str):
        return []
    names = re.findall(r"\$\{(\w+)\}|\$(\w+)", value)
    return [a or b for a, b in names if (a or b) not in os.environ]
