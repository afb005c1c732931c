"""Every block of code in the documentation is run, parsed, or says why not.

The word after a fence says what becomes of a block:

- ``python``, ``bash``: run, from the top of a page to its end, in a folder that holds what ``nsdflow demo`` leaves
  behind; the Python blocks of a page share one namespace, as a reader would type them;
- ``yaml``: parsed; ``text``: a formula, a listing or output, nothing that could be run;
- ``python no-run: the reason`` (and ``bash``, ``yaml``): shown only, for the reason given.

Anything else is refused.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*/*.md")]
)
LANGUAGES = ("python", "bash", "yaml", "text")
#: Blocks that only lay out a page; code stands in colon fences or outside of them, so none is hidden in these.
DIRECTIVE = re.compile(r"\{(toctree|eval-rst|include|math|figure|image)\}.*", re.DOTALL)
OPTED_OUT = re.compile(r"(python|bash|yaml) no-run: (\S+ ){2,}\S+")
SECONDS = 240
#: Fixtures of the folders in which pages run that need other files than the demo leaves behind.
FOLDERS = {"adopt.md": "published_folder"}


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, what its fence says, what it holds."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def action(self) -> str:
        """The language to run or parse it as, ``shown`` or ``layout``; ``undeclared`` is a mistake of the page."""
        if DIRECTIVE.fullmatch(self.info):
            return "layout" if "```" not in self.text else "undeclared"
        if OPTED_OUT.fullmatch(self.info):
            return "shown"
        return self.info if self.info in LANGUAGES else "undeclared"

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} ({self.info or 'no language'})"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a Markdown page, in order, also those inside lists and colon fences."""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        assert token.type != "code_block", f"{page.name}:{token.map}: an indented block declares nothing"
        if token.type == "fence":
            assert token.map is not None
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content)


def run_python(block: Block, namespace: dict[str, object]) -> None:
    """Run a block so that a traceback names the page and its line."""
    code = compile("\n" * block.line + block.text, str(block.page), "exec")
    exec(code, namespace)


def run_bash(block: Block) -> None:
    """Run a block in the current folder with this environment's commands first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"


def run_page(page: Path) -> None:
    """Carry out every block of a page in order."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.action == "python":
            run_python(block, namespace)
        elif block.action == "bash":
            run_bash(block)
        elif block.action == "yaml":
            yaml.safe_load(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = request.getfixturevalue(FOLDERS.get(page.name, "demo_folder"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    run_page(page)


def test_every_block_declares_what_becomes_of_it() -> None:
    found = [block for page in PAGES for block in blocks(page)]
    assert [str(block) for block in found if block.action == "undeclared"] == []
    counts = Counter(block.action for block in found)
    assert len(PAGES) > 15
    assert counts["python"] > 15
    assert counts["bash"] > 8
    assert counts["shown"] < counts["python"] + counts["bash"], "most of what the pages show is to be run"


@pytest.mark.parametrize(
    "info",
    ["", "console", "python no-run", "python no-run: because", "sh", "{code-block} python", "text no-run: so it is"],
)
def test_undeclared_blocks_are_found(info: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n- item\n\n  ```{info}\n  x\n  ```\n")
    (block,) = blocks(page)
    assert block.action == "undeclared"


def test_code_cannot_hide_in_a_directive(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("````{toctree}\n```python\n1 / 0\n```\n````\n")
    (block,) = blocks(page)
    assert block.action == "undeclared"


def test_a_failing_block_names_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n:::{note}\n```python\nx = 1\n```\n:::\n\n```python\nassert x == 1\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as raised:
        run_page(page)
    assert raised.traceback[-1].lineno + 1 == 11
    page.write_text("```bash\nfalse | true\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1"):
        run_page(page)
