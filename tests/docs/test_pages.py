"""The pages are complete: every pipeline has one, and links within the repository lead somewhere."""

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
