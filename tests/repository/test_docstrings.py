"""Docstrings are numpydoc: sections name types, describe their entries, and match the signature."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest
from numpydoc.validate import validate

import nsdflow

#: numpydoc's checks: https://numpydoc.readthedocs.io/en/latest/validation.html
CHECKS = {"GL01", "GL02", "GL03", "PR02", "PR03", "PR04", "PR05", "PR06", "PR08", "RT02", "RT03", "SS03"}


def public_names() -> Iterator[str]:
    """Functions and classes in ``__all__`` of the module that defines them."""
    for found in pkgutil.walk_packages(nsdflow.__path__, "nsdflow."):
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if (inspect.isfunction(thing) or inspect.isclass(thing)) and thing.__module__ == found.name:
                yield f"{found.name}.{name}"


def faults(name: str) -> list[str]:
    """Messages of the checks that a docstring fails."""
    return [f"{name}: {code} {text}" for code, text in validate(name)["errors"] if code in CHECKS]


@pytest.mark.parametrize("room", sorted({name.split(".")[1] for name in public_names()}))
def test_sections_are_well_formed(room: str) -> None:
    names = [name for name in public_names() if name.split(".")[1] == room]
    assert [fault for name in names for fault in faults(name)] == []


def test_the_check_finds_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(x: int) -> None:
        """Do something.

        Parameters
        ----------
        x : the number of voxels
        y : int
            Voxels.
        """

    monkeypatch.setattr(nsdflow, "planted", planted, raising=False)
    codes = {fault.split()[1] for fault in faults("nsdflow.planted")}
    assert "PR02" in codes
