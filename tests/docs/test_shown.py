"""Each row, paragraph and entry of the pages on faults and security names a test that shows it, in ``shown.yaml``."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
SHOWN: dict[str, dict[str, str]] = yaml.safe_load((TESTS / "docs" / "shown.yaml").read_text())
#: Options of a script after what it counts.
OPTIONS = re.compile(r" \(`--.*`\)$")


def rows(text: str) -> list[str]:
    """First cells of the rows of all tables: one, or two where the first column only groups the rows."""
    found, stage, grouped = [], "", False
    for before, line in zip(["", *text.splitlines()], text.splitlines(), strict=False):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            continue
        if not before.startswith("|"):  # the header
            grouped = cells[:2] == ["stage", "fault"]
        elif not set(line) <= set("|-"):
            stage = cells[0] or stage
            found.append(
                f"{stage}: {cells[1]}" if grouped else cells[0].partition(" (`--kills")[0].partition(" (`--mut")[0]
            )
    return found


def statements(page: str) -> list[str]:
    """What a page states, in the words that begin it."""
    text = (ROOT / "docs" / page).read_text()
    entries = re.findall(r"^(.+)\n: ", text, flags=re.MULTILINE)
    paragraphs = re.findall(r"^\*\*(.+?)\*\*", text, flags=re.MULTILINE)
    return [*paragraphs, *rows(text), *(entry.strip("`") for entry in entries)]


@cache
def functions(file: Path) -> set[str]:
    """Names of the functions of a test module."""
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("page", SHOWN)
def test_everything_that_a_page_states_names_its_tests(page: str) -> None:
    stated = statements(page)
    assert len(stated) > 10
    assert sorted(SHOWN[page]) == sorted(set(stated))


def test_the_tests_exist() -> None:
    named = {name for page in SHOWN.values() for tests in page.values() for name in tests.split()}
    absent = []
    for name in sorted(named):
        file, _, function = name.partition("::")
        if not (TESTS / file).exists() or function not in functions(TESTS / file):
            absent.append(name)
    assert absent == []


def test_rows_are_read_as_they_stand() -> None:
    page = "| stage | fault | outcome |\n|---|---|---|\n| one | a | x |\n| | b | y |\n"
    page += "\n| what | n |\n|---|---|\n| c (`--kills 8`) | 8 |"
    assert rows(page) == ["one: a", "one: b", "c"]
