"""Every code block of the documentation is run or parsed, or says why not, and prints the output below it.

The word after a fence selects the action:

- ``python``, ``bash``: run, from the top of a page to its end, in a folder that holds what ``nsdflow demo`` leaves
  behind; the Python blocks of a page share one namespace, as a reader would type them;
- ``yaml``: parsed; ``text``: right below a block that is run, what this prints (see ``outputs.py``); elsewhere a
  formula or a listing, nothing that could be run;
- ``python no-run: the reason`` (and ``bash``, ``yaml``): shown only, for the reason given.

Anything else is refused. ``NSDFLOW_WRITE_OUTPUTS=1 pytest tests/docs/test_blocks.py -k test_page`` writes the outputs.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from nsdflow.report.sections import brain, ridge
from tests.docs.outputs import differences
from tests.docs.pages import blocks, run_page

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*/*.md")]
)


#: Sections of the reports that a page makes. Reports have other tests, and take ten seconds each with all sections.
SECTIONS = {"surfaces.md": brain.SECTIONS, "image-content.md": (*ridge.SECTIONS, *brain.SECTIONS)}
#: Fixtures of the folders of pages that need files other than those of the demo.
FOLDERS = {"adopt.md": "published_folder"}


def copied(made: Path, folder: Path) -> Path:
    """A folder for one page: the large files are links, into which no page writes; runs change."""
    shutil.copytree(made, folder, copy_function=os.link, ignore=shutil.ignore_patterns("runs"))
    for runs in made.glob("**/runs"):
        shutil.copytree(runs, folder / runs.relative_to(made))
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(block.action in ("python", "bash") for block in blocks(page)):
        made: Path = request.getfixturevalue(FOLDERS.get(page.name, "demo_folder"))
        monkeypatch.chdir(copied(made, tmp_path / "page"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("nsdflow.report.html.SECTIONS", SECTIONS.get(page.name, ()))
    draw, blank = Figure.savefig, request.getfixturevalue("_blank")

    def save(figure: Figure, target: Any, **options: Any) -> None:
        """Pictures of reports are one pixel, since tests/report draws them; those that a page saves are whole."""
        target.write(blank) if hasattr(target, "write") else draw(figure, target, **options)

    monkeypatch.setattr(Figure, "savefig", save)
    run_page(page, write="NSDFLOW_WRITE_OUTPUTS" in os.environ)


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
    page.write_text("```bash\nnsdflow nothing\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:1 .*nsdflow nothing: exit status 2"):
        run_page(page)


@pytest.mark.parametrize("shown", ["", "```text\n2\n```\n", "```text\n3\n4\n```\n"])
def test_an_output_that_is_missing_or_wrong_is_found_and_written(shown: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```python\nx = 1\nx + 2\n```\n{shown}\n```bash\necho four\n```\n\nEnd.\n")
    with pytest.raises(AssertionError, match=r"page\.md:3 .*another output"):
        run_page(page)
    run_page(page, write=True)
    run_page(page)
    assert page.read_text() == (
        "# Page\n\n```python\nx = 1\nx + 2\n```\n```text\n3\n```\n\n"
        "```bash\necho four\n```\n```text\nfour\n```\n\nEnd.\n"
    )


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  1\n", "a 1", True),
        ("1", "2", False),
        ("1,024 images", "1,025 images", False),
        ("0.117 of 1", "0.118 of 1", True),
        ("0.117", "0.217", False),
        ("-0.002", "0.004", True),
        ("74%", "76%", True),
        ("74%", "94%", False),
        ("subj01", "subj02", False),
        ("took ... s", "took 3 min 4 s", True),
        ("a\n...\nb 2", "a\nx\ny\nb 2\n", True),
        ("a\n...\nb 2", "a\nb 3", False),
        ("a ...", "b", False),
        ("...", "anything", True),
        ("a ... b ... c", "a x b y b z c", True),
        ("a", "a b", False),
        ("", "printed", False),
        ("shown", "", False),
    ],
)
def test_outputs_are_compared(shown: str, printed: str, same: bool) -> None:
    assert (differences(shown, printed) == "") is same
