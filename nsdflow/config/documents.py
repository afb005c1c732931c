"""YAML files of settings by name or path, and overrides, before validation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from nsdflow.errors import ConfigError, one_of
from nsdflow.io.yaml_files import BoundedLoader

__all__ = ["Document", "read_document", "shipped_names", "storage_names"]


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
    problems: tuple[str, ...] = ()
    """Mistakes of the text and of the keys of ``--set``, to be reported with those of the values."""

    def with_overrides(self, overrides: Mapping[str, Any]) -> Document:
        """Return the document with dotted settings replaced; a key that leads into no section becomes a problem."""
        raw, problems = _with_overrides(self.raw, overrides)
        return replace(self, raw=raw, overrides=dict(overrides), problems=(*self.problems, *problems))


def dotted(overrides: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested overrides, so that the rest of a section keeps its values.

    >>> dotted({"train": {"epochs": 2}})
    {'train.epochs': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def shipped_names(folder: str) -> tuple[str, ...]:
    """Names of the YAML files that come with nsdflow in ``folder``."""
    return tuple(sorted(path.stem for path in _folder(folder).glob("*.yaml")))


def storage_names() -> tuple[str, ...]:
    """Names of the storage profiles that come with nsdflow."""
    return shipped_names("storage_config")


def read_document(what: str | os.PathLike[str] | Mapping[str, Any], *, folder: str, kind: str) -> Document:
    """Read a shipped file by name, a file by path, or a mapping, without validation.

    Parameters
    ----------
    what : str, path or mapping
        Name, path that ends in ``.yaml`` or ``.yml``, or mapping.
    folder : str
        Folder of the shipped files, such as ``"pipelines"``.
    kind : str
        Word for the document in messages, such as ``"pipeline"``.

    Raises
    ------
    ConfigError
        The file cannot be read or is not a mapping.
    SelectionError
        No shipped file has that name.
    """
    where, text = _read(what, folder, kind, shipped_names(folder))
    raw, problems = _parse(where, text)
    return Document(where, text, raw, problems=problems)


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


class _EachKeyOnce(BoundedLoader):
    """A loader that remembers duplicate keys; YAML silently uses the last one."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.twice: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping, and note the keys that occur twice."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                self.twice.append(f"line {key.start_mark.line + 1}: duplicate key {key.value!r}; keep one of them")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse(where: str, text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    loader = _EachKeyOnce(text)
    try:
        raw = loader.get_single_data()
    except yaml.constructor.ConstructorError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(where, [f"{line}{error.problem}"]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(where, [f"not YAML: {' '.join(str(error).split())}"]) from None
    finally:
        loader.dispose()
    if not isinstance(raw, dict):
        raise ConfigError(where, ["not a mapping; write key: value on each line"])
    return raw, tuple(loader.twice)


def _with_overrides(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    merged, problems = dict(raw), []
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        level = merged
        for parent in parents:
            inner = level.get(parent)
            if inner is not None and not isinstance(inner, Mapping):
                problems.append(f"--set {dotted}: {parent} is not a section; write --set {parent}=VALUE")
                break
            level[parent] = dict(inner or {})
            level = level[parent]
        else:
            level[last] = value
    return merged, problems
