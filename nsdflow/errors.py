"""Exceptions of nsdflow, one class per kind of mistake.

Every message is one line that says what is wrong, where, what was received, and what to write or do instead. The
command line prints it and exits with status 2. Each class also inherits the standard exception that a caller would
expect, so that ``except FileNotFoundError`` works too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

__all__ = [
    "ConfigError",
    "MissingDataError",
    "NsdflowError",
    "PlanError",
    "RunError",
    "SelectionError",
    "SourceError",
    "StoreError",
    "one_of",
]

#: A message lists all names if there are at most this many, otherwise the nearest three.
MOST_NAMES: Final = 20


class NsdflowError(Exception):
    """Base of all errors that nsdflow raises on purpose."""


class ConfigError(NsdflowError, ValueError):
    """A pipeline, storage profile or option is wrong; ``problems`` lists **all** mistakes."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            super().__init__(f"{where}: {self.problems[0]}")
            return
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{where}: {len(self.problems)} problems{lines}")


class SourceError(NsdflowError, ValueError):
    """A file of NSD is damaged, or two files contradict each other."""


class MissingDataError(NsdflowError, FileNotFoundError):
    """A required file is missing (or not public)."""


class SelectionError(NsdflowError, KeyError):
    """An unknown subject, ROI, session, betas version...; the message lists the available ones."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class StoreError(NsdflowError, ValueError):
    """A store is incomplete, damaged, misaligned, has another schema, or already exists."""


class PlanError(NsdflowError, ValueError):
    """A plan does not fit: too much memory, too many files, no such pool."""


class RunError(NsdflowError, RuntimeError):
    """A task or a training failed for a reason the user can act on."""


def one_of(kind: str, asked: object, available: Iterable[object]) -> SelectionError:
    """The error for an unknown name: lists the available names (the nearest three of many) and suggests one.

    >>> print(one_of("ROI", "v1", ["V1", "V2"]))
    unknown ROI 'v1'; available: V1, V2
    """
    names = [str(name) for name in available]
    near = [] if _names_number(str(asked), names) else get_close_matches(str(asked), names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    if len(names) > MOST_NAMES:
        nearest = get_close_matches(str(asked), names, n=3, cutoff=0)
        return SelectionError(f"unknown {kind} {str(asked)!r}; nearest: {', '.join(nearest)} (of {len(names)})")
    return SelectionError(f"unknown {kind} {str(asked)!r}; available: {', '.join(names) or 'none'}{hint}")


def _names_number(asked: str, names: Iterable[str]) -> bool:
    """Whether an unknown name differs from a known one only in its number, so that no suggestion helps."""
    bare = re.sub(r"\d+", "", asked)
    return bare != asked and any(bare == re.sub(r"\d+", "", name) for name in names)
