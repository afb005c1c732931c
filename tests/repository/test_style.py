"""Rules for every module: its size, its public names (sorted by ruff) and their docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "nsdflow").rglob("*.py"))
LONGEST_MODULE = 400
LONGEST_FUNCTION = 80


def public_names(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def problems(path: Path) -> list[str]:
    """All problems with the shape of one module."""
    text = path.read_text()
    tree = ast.parse(text)
    found = []
    if len(text.splitlines()) > LONGEST_MODULE:
        found.append(f"{len(text.splitlines())} lines")
    if ast.get_docstring(tree) is None:
        found.append("no docstring of the module")
    names = public_names(tree)
    if names is None and path.name not in ("__init__.py", "__main__.py"):
        found.append("no __all__")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                found.append(f"{node.name} has {lines} lines")
    definitions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [node for node in definitions if node.name in (names or ())]
    found += [f"{node.name} has no docstring" for node in public if ast.get_docstring(node) is None]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_is_in_shape(path: Path) -> None:
    assert problems(path) == []


def test_the_sweep_sees_the_library() -> None:
    assert len(MODULES) > 40


def test_the_checks_find_what_they_look_for(tmp_path: Path) -> None:
    module = tmp_path / "planted.py"
    module.write_text('__all__ = ["b", "a"]\ndef a():\n' + "    x = 1\n" * LONGEST_MODULE)
    assert problems(module) == [
        f"{LONGEST_MODULE + 2} lines",
        "no docstring of the module",
        f"a has {LONGEST_MODULE + 1} lines",
        "a has no docstring",
    ]
