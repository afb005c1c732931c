"""What a newcomer can rely on in every folder of the package: few modules, no import cycles, plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nsdflow"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FOLDERS = sorted({path.parent for path in MODULES.values()})
MOST_MODULES = 12

#: Idioms that read as if they were translated: "memory a task", "anew", "is told", "there are: ...", "so many".
UNITS = "memory|bytes|tasks|seconds|files|epochs|images|rows|voxels|trials|overhead|peak"
THINGS = "task|worker|second|subject|session|image|voxel|epoch|shard|run|trial|batch|block|job|layer"
IDIOM = re.compile(
    rf"\banew\b|\b(is|are|was|were|be) told\b(?! apart)|there are: |\bwhat (there is|is there)\b|\bso many\b"
    rf"|(?<!instead )\bof (its|our|your) own[ .,;:]|\bof one's own\b|\bagain and again\b"
    rf"|\b({UNITS}|one|line) an? ({THINGS})\b"
)


def imported(path: Path, name: str) -> Iterator[str]:
    """Modules of the package that a module imports, also within functions or for types only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("nsdflow"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found = whole if whole in MODULES else node.module
                if found != name:
                    yield found


def modules_beside(folder: Path) -> list[str]:
    """Modules of a folder, its ``__init__`` aside."""
    return [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_a_folder_holds_at_most_a_dozen_modules(folder: Path) -> None:
    assert len(modules_beside(folder)) <= MOST_MODULES, sorted(modules_beside(folder))


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: set(imported(path, name)) for name, path in MODULES.items() if name != "nsdflow"}
    assert sum(map(len, graph.values())) > 500
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def folder_of(module: str) -> str:
    """The folder of a module; that of an ``__init__`` is its own."""
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def test_no_two_folders_import_each_other() -> None:
    """Folders of different branches; a folder and those within it make one room."""
    arrows = {(folder_of(name), folder_of(found)) for name, path in MODULES.items() for found in imported(path, name)}
    across = {(one, other) for one, other in arrows if not one.startswith(other) and not other.startswith(one)}
    assert len(across) > 100
    assert {pair for pair in across if pair[::-1] in across} == set()


def lines_with_idioms() -> list[str]:
    """Lines of code, pages and pipelines that hold one of the idioms."""
    pages = [
        *MODULES.values(),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "pipelines").glob("*.yaml"),
        *(ROOT / "storage_config").glob("*.yaml"),
        *(ROOT / "benchmarks").glob("*.py"),
        *(path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
    built = ROOT / "docs" / "_build", ROOT / "docs" / "api" / "generated"
    return [
        f"{page.relative_to(ROOT)}:{number}: {line.strip()}"
        for page in pages
        if not any(page.is_relative_to(folder) for folder in built)
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if IDIOM.search(line)
    ]


def test_the_english_is_plain() -> None:
    assert lines_with_idioms() == []


@pytest.mark.parametrize(
    "text", ["memory a task", "there are: a, b", "made anew", "it is told", "one a subject", "so many"]
)
def test_idioms_are_found(text: str) -> None:
    assert IDIOM.search(text)


#: Public names that stand in several modules: a command and the function that it calls, the same step of several
#: solvers, and the sections of each module of the report.
SHARED_NAMES = {"adopt", "doctor", "ingest", "run", "fit", "plan_memory", "predict", "SECTIONS"}


def test_a_public_name_stands_in_one_module() -> None:
    """Functions, classes and constants; type aliases such as ``Floats`` aside."""
    homes: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            else:
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                names = [target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()]
            for name in names:
                if not name.startswith("_"):
                    homes.setdefault(name, set()).add(module)
    assert len(homes) > 1500
    several = {name: sorted(modules) for name, modules in homes.items() if len(modules) > 1}
    assert several.keys() == SHARED_NAMES, several


def test_no_module_asks_for_the_name_of_a_protocol() -> None:
    """What the protocols do is in the records of :data:`nsdflow.fit.protocols.PROTOCOLS`."""
    asked = re.compile(r"""[!=]= *["'](published|strict)["']|["'](published|strict)["'] *[!=]=""")
    assert asked.search('config.protocol == "strict"')
    assert [str(path) for path in MODULES.values() if asked.search(path.read_text())] == []


def test_a_change_takes_at_most_three_files_and_they_exist() -> None:
    """The sections "How to change it" of the architecture page."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## How to change it")[2]
    sections = text.split("### ")[1:]
    assert len(sections) == 10
    for section in sections:
        files = set(re.findall(r"`(nsdflow/[\w/]+\.py)`", section))
        folders = set(re.findall(r"`((?:nsdflow|tests|storage_config)/[\w/.]*)`", section)) - files
        assert 1 <= len(files) <= 3, section
        assert [path for path in files | folders if not (ROOT / path).exists()] == [], section
