"""Figures: functions of labelled results that return a matplotlib figure, drawn without any window.

Each public function of the modules here and in ``models`` is a figure. Notebooks find all of them here:
``figures.accuracy_bars(run)``. Sections of the report import them from their modules.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import walk_packages
from typing import Any


@cache
def _figures() -> dict[str, Any]:
    """The figures of all modules by name."""
    modules = [import_module(found.name) for found in walk_packages(__path__, f"{__name__}.") if not found.ispkg]
    return {name: getattr(module, name) for module in modules for name in module.__all__}


def __getattr__(name: str) -> Any:
    if name.startswith("__") or name not in _figures():
        raise AttributeError(f"module {__name__!r} has no figure {name!r}")
    return _figures()[name]


def __dir__() -> list[str]:
    return sorted(_figures())
