"""Sphinx configuration: MyST pages, API pages from docstrings, the changelog from its fragments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nsdflow

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "nsdflow"
author = "The nsdflow developers"
project_copyright = author
release = version = nsdflow.__version__

extensions = [
    "myst_parser",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "pydata_sphinx_theme"
html_title = "nsdflow"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

# the types of changes/README.md, in the order in which a reader wants them
FRAGMENT_TITLES = {
    "feature": "New",
    "bugfix": "Corrected",
    "performance": "Faster or smaller",
    "removal": "Gone or changed",
    "doc": "Documentation",
}


def changelog(folder: Path) -> str:
    """The fragments of a ``changes/`` folder as one Markdown text, by type and then by issue."""
    fragments = sorted(folder.glob("[1-9]*.md"), key=lambda path: (int(path.name.split(".")[0]), path.name))
    sections = []
    for kind, title in FRAGMENT_TITLES.items():
        texts = [path.read_text().strip() for path in fragments if path.name.split(".")[1] == kind]
        if texts:
            items = ["- " + text.replace("\n", "\n  ") for text in texts]
            sections.append("\n".join([f"### {title}", "", *items]))
    return "\n\n".join(sections)


def add_fragments(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append the fragments to the changelog page as it is read."""
    if docname == "changelog":
        source[0] += "\n\n" + changelog(Path(app.confdir).parent / "changes") + "\n"


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_fragments)
