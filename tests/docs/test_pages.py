"""Every pipeline has a page, and links within the repository have targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIPELINES = sorted(path.stem for path in (ROOT / "pipelines").glob("*.yaml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def test_every_pipeline_has_a_page() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "analyses").glob("*.md")} - {"index"}
    assert len(PIPELINES) > 5
    assert pages == set(PIPELINES) - {"demo"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_there_are_links_to_follow() -> None:
    assert sum(len(LINK.findall(page.read_text())) for page in PAGES) > 40


def source_text() -> str:
    """The library's text with broken string literals joined and placeholders removed."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "nsdflow").rglob("*.py")))
    return re.sub(r"\{[^{}]*\}", "", re.sub(r'"\s*\n\s*f?"', "", text))


def test_error_lines_are_those_of_the_library() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    lines = re.findall(r"^`(.+)`\n: ", page, flags=re.MULTILINE)
    assert len(lines) > 12
    source = source_text()
    pieces = [piece.strip() for line in lines for piece in line.split("...")]
    assert [piece for piece in pieces if piece not in source] == []
