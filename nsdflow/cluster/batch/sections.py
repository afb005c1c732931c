"""Sections of ``jobqueue.yaml``: read over dask-jobqueue's defaults, checked, with all problems in one error.

Old names of keys (``env-extra``) and underscores (``maximum_jobs``) are accepted; everything that dask-jobqueue reads
passes through. An unknown key, or a value that cannot be meant, is refused with the line to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import dask
from dask.utils import parse_bytes

from nsdflow.cluster.batch.jobqueue import HMS, BatchSystem
from nsdflow.errors import ConfigError, PlanError
from nsdflow.io.paths import normalize

__all__ = ["RENAMED", "gpu_section", "read_section", "walltime_seconds"]

#: Keys of earlier versions of dask-jobqueue, which it still reads, and their names of today.
RENAMED: Final = {
    "extra": "worker-extra-args",
    "env-extra": "job-script-prologue",
    "job-extra": "job-extra-directives",
    "header-skip": "job-directives-skip",
}
#: Key of nsdflow, in addition to those of dask-jobqueue.
MAXIMUM_JOBS_KEY: Final = "maximum-jobs"
#: Words that users write instead of a key, for any batch system.
SYNONYMS: Final = {
    "wall-time": "walltime",
    "time-limit": "walltime",
    "ram": "memory",
    "cpus": "cores",
    "max-jobs": MAXIMUM_JOBS_KEY,
}
#: Values of keys that are not set.
EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
#: Every worker needs more than this; a smaller number without a unit lacks one.
LEAST_MEMORY_BYTES: Final = 100 << 20
#: Text that needs no quotes in the header of a job script.
HEADER_SAFE: Final = re.compile(r"[\w./%+=@:,~-]+")
#: Text that is allowed within double quotes in a job script: with variables, without commands.
QUOTED_SAFE: Final = re.compile(r'(?!.*(\$\(|[`"\\\n]))')


def read_section(system: BatchSystem, section: str) -> dict[str, Any] | None:
    """One section of ``jobqueue.yaml`` over dask-jobqueue's defaults; None if there is no such section.

    A section other than the batch system's own (``slurm-gpu``) needs only the keys that differ from it (``slurm``).

    Raises
    ------
    ConfigError
        Listing every problem, with the lines to write.
    """
    name_in_dask = system.job_type.config_name  # the import registers the defaults
    sections = _sections()
    if section not in sections and section != system.name:
        return None
    every = dask.config.merge(*dask.config.defaults)["jobqueue"]
    known = {_kebab(key): value for key, value in every[name_in_dask].items()}
    problems: list[str] = []
    settings = dict(known)
    for name in dict.fromkeys((system.name, section)):
        settings |= _layer(system, name, sections.get(name), known, problems if name == section else [])
    _check(system, section, settings, problems)
    if problems and section == system.name:
        strange = [name for name in sections if name not in every and not name.lower().startswith(section)]
        problems += [f"section {near}: unknown; write {section}:" for near in get_close_matches(section, strange, n=1)]
    if problems:
        raise ConfigError(f"jobqueue.yaml, section {section}", problems)
    return settings


def gpu_section(system: BatchSystem) -> str | None:
    """Name of the section of the GPU pool, ``slurm-gpu``; None if there is none.

    Raises
    ------
    ConfigError
        There is no such section, but one whose name looks like a misspelling.
    """
    name = f"{system.name}-gpu"
    others = [section for section in _sections() if section.lower().startswith(system.name) and section != system.name]
    if name in others:
        return name
    near = get_close_matches(name, [section.lower() for section in others], n=1, cutoff=0.8)
    if near:
        raise ConfigError("jobqueue.yaml", [f"section {near[0]}: unknown; write {name}: for the GPU pool"])
    return None


def walltime_seconds(walltime: Any, system: BatchSystem | None = None) -> int | None:
    """Seconds of a walltime as its batch system reads it; None if there is none.

    Parameters
    ----------
    walltime : str or None
        ``"1-02:00"``, ``"04:00:00"``, ...
    system : BatchSystem, optional
        Default: parts as of PBS and SGE.

    Raises
    ------
    PlanError
        It is not a walltime of that batch system, or a number: YAML reads ``12:00:00`` without quotes as 43200.

    Examples
    --------
    >>> walltime_seconds("1-02:00"), walltime_seconds("00:30:00")
    (93600, 1800)
    """
    units_by_parts = HMS if system is None else system.walltime
    if walltime is None or units_by_parts is None:
        return None
    example = "04:00:00" if system is None else system.walltime_example
    if isinstance(walltime, int | float):
        meant = _clock(int(walltime), len(example.split(":")))
        raise PlanError(
            f"walltime: {walltime} is a number, as YAML reads {meant} without quotes; "
            f"write it in quotes, walltime: '{meant}'"
        )
    days, dash, clock = str(walltime).strip().rpartition("-")
    numbers = clock.split(":")
    units = (3600, 60, 1) if dash else dict(enumerate(units_by_parts, start=1)).get(len(numbers), ())
    if not all(number.isdigit() for number in (*numbers, days or "0")) or len(numbers) > len(units):
        raise PlanError(f"walltime: {walltime!r} is not a walltime; write for example walltime: '{example}'")
    clocked = sum(int(number) * unit for number, unit in zip(numbers, units, strict=False))
    return int(days or 0) * 86400 + clocked


def _sections() -> dict[str, Any]:
    """Sections by name; ``slurm_gpu`` is the same as ``slurm-gpu``."""
    found = dask.config.get("jobqueue", default=None) or {}
    if not isinstance(found, Mapping):
        raise ConfigError("jobqueue.yaml", ["jobqueue: is not a mapping of sections; write jobqueue: {slurm: {...}}"])
    return {_kebab(name): section for name, section in found.items()}


def _advice(system: BatchSystem, key: str, value: Any, allowed: set[str]) -> str:
    """What to write instead of an unknown key."""
    if key in system.directives:
        return f'write job-extra-directives: ["{system.directives[key].format(value)}"]'
    synonyms = {**SYNONYMS, **system.synonyms}
    near = synonyms.get(key) or next(iter(get_close_matches(key, sorted(allowed), n=1)), None)
    return f"write {near}: {value}" if near else f"known: {', '.join(sorted(allowed - RENAMED.keys()))}"


def _layer(
    system: BatchSystem, name: str, section: Any, known: Mapping[str, Any], problems: list[str]
) -> dict[str, Any]:
    """The keys that one section sets, under their names of today."""
    if section is None:  # only comments
        return {}
    if not isinstance(section, Mapping):
        problems.append(f"{name}: is {section!r}, not a mapping; write one key: value per line")
        return {}
    settings: dict[str, Any] = {}
    renamed: dict[str, Any] = {}
    old: dict[str, str] = {}
    allowed = {*known, *RENAMED, MAXIMUM_JOBS_KEY, "project"}
    for raw_key, value in section.items():
        key = _kebab(raw_key)
        if key not in allowed:
            problems.append(f"{raw_key}: unknown key; {_advice(system, key, value, allowed)}")
            continue
        # SLURM's and PBS's account was once called project
        new = "account" if key == "project" and "project" not in known else RENAMED.get(key, key)
        if new == key:
            settings.setdefault(key, value)
        elif value not in EMPTY:
            old[new] = raw_key
            renamed[new] = value
    for new in renamed:
        if settings.get(new) not in EMPTY:  # dask-jobqueue's defaults, merged into this section, are empty
            problems.append(f"{old[new]}: is an old name of {new}, which is also set; keep {new} alone")
    return settings | renamed


def _check(system: BatchSystem, section: str, settings: dict[str, Any], problems: list[str]) -> None:
    """Check every value, and bring lists and numbers to their form."""
    if settings.get("cores") is None or settings.get("memory") is None:
        missing = " and ".join(key for key in ("cores", "memory") if settings.get(key) is None)
        walltime = f", walltime: '{system.walltime_example}'" if system.walltime else ""
        problems.append(
            f"no {missing}; write for example in ~/.config/dask/jobqueue.yaml:  "
            f"jobqueue: {{{section}: {{cores: 8, memory: 32GiB{walltime}}}}}"
        )
    if "disk" in settings and settings["disk"] is None:
        problems.append("no disk; write for example disk: 20GB")
    for key, value in settings.items():
        if value is None:
            continue
        try:
            settings[key] = _CHECKS.get(key, _text)(key, value)
        except ValueError as error:
            problems.append(str(error))
    try:
        walltime_seconds(settings.get("walltime"), system)
    except PlanError as error:
        problems.append(str(error))


def _count(key: str, value: Any) -> int:
    number = int(value) if isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit()) else 0
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{key}: {value!r} is not a number of {key}; write a whole number from 1, {key}: 4")
    return number


def _memory(key: str, value: Any) -> str:
    text = str(value).strip()
    try:
        size = 0 if text.isdigit() and int(text) < LEAST_MEMORY_BYTES else parse_bytes(value)
    except (ValueError, TypeError, AttributeError, OverflowError):
        size = 0
    if size <= 0:
        meant = f"{text}GiB" if text.isdigit() and int(text) > 0 else "32GiB"
        raise ValueError(f"{key}: {value!r} is not a memory size with its unit; write for example {key}: {meant}")
    if size < LEAST_MEMORY_BYTES:
        raise ValueError(f"{key}: {value!r} is less than any worker needs; write for example {key}: 32GiB")
    return str(value)


def _list(key: str, value: Any) -> Any:
    """A list of lines; a single text counts as its lines. HTCondor's directives are a mapping."""
    if isinstance(value, Mapping) and key == "job-extra-directives":
        return dict(value)
    if isinstance(value, str):
        return [line for line in value.splitlines() if line.strip()]
    if not isinstance(value, list | tuple) or any(isinstance(line, Mapping | list | tuple) for line in value):
        raise ValueError(f"{key}: {value!r} is not a list of lines; write {key}: ['first line', 'second line']")
    return [str(line) for line in value if line is not None]


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}: {value!r} is not a mapping; write {key}: {{interface: eth0}}")
    return dict(value)


def _text(key: str, value: Any) -> Any:
    if isinstance(value, Mapping | list | tuple):
        raise ValueError(f"{key}: {value!r} is not a single value; write {key}: VALUE")
    if isinstance(value, str) and "\n" in value.strip():
        raise ValueError(f"{key}: {value!r} has several lines; write it on one")
    return value


def _walltime(_: str, value: Any) -> Any:
    return value  # walltime_seconds checks it, which knows the batch system


def _header_text(key: str, value: Any) -> str:
    if not HEADER_SAFE.fullmatch(str(value)):
        raise ValueError(f"{key}: {value!r} has characters that a job script cannot hold; choose a plain path")
    return str(value)


def _header_path(key: str, value: Any) -> str:
    """A folder in the header, where no shell expands ``~`` and variables."""
    text = str(value)
    if text[:1] == "~" or "$" in text:
        try:
            text = normalize(text)
        except ConfigError as error:
            raise ValueError(f"{key}: {'; '.join(error.problems)}") from None
    return _header_text(key, text)


def _shell_path(key: str, value: Any) -> str:
    """A path between double quotes, where the shell of the node expands variables, but not ``~``."""
    if not QUOTED_SAFE.match(str(value)):
        raise ValueError(f"{key}: {value!r} would run a command in the job script; only $VARIABLES are allowed")
    return re.sub("^~(?=/|$)", "$HOME", str(value))


def _command(key: str, value: Any) -> str:
    """The Python of workers, or a command that ends in one; a file in the home folder gets its full path."""
    _shell_path(key, value)
    file = Path(str(value)).expanduser() if str(value).startswith("~/") else None
    return str(file) if file is not None and file.exists() else str(value)


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "cores": _count,
    "processes": _count,
    MAXIMUM_JOBS_KEY: _count,
    "memory": _memory,
    "disk": _memory,
    "walltime": _walltime,
    "interface": _header_text,
    "log-directory": _header_path,
    "local-directory": _shell_path,
    "python": _command,
    "scheduler-options": _mapping,
    **dict.fromkeys((*RENAMED.values(), "submit-command-extra", "cancel-command-extra"), _list),
}


def _clock(seconds: int, parts: int) -> str:
    """A walltime of two or three parts: YAML reads both as if the last were seconds."""
    if parts == 2:
        return f"{seconds // 60:02d}:{seconds % 60:02d}"
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _kebab(name: Any) -> str:
    return str(name).replace("_", "-")
