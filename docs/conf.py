"""Sphinx configuration: MyST pages, API pages from docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

import nsdflow

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "nsdflow"
author = "The nsdflow developers"
project_copyright = author
release = version = nsdflow.__version__

extensions = [
    "myst_parser",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "generated",  # docs/_ext: the API and the commands
    "example_store",  # docs/_ext: the store that the examples read
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "mathml",  # docs/_ext: formulas without network
]
# a package and its module export the same object under two names; annotations are ambiguous
suppress_warnings = ["ref.python"]
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "ignore_pattern": "demo",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),  # figures and tables, not "<matplotlib...Colorbar object at 0x...>"
    "copyfile_regex": r".*\.yaml",
    "min_reported_time": 60,
    "show_memory": False,
}
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ArrayLike": "ArrayLike", "npt.ArrayLike": "ArrayLike"}  # not the union it stands for
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_math_renderer = "mathml"
html_css_files = ["nsdflow.css"]
html_theme = "pydata_sphinx_theme"
html_title = f"nsdflow {release}"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
