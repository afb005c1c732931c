"""Numbers of the paper and its notebooks, and comparisons of runs with them.

St-Yves, Allen, Wu, Kay and Naselaris (2023), Nature Communications 14, 3329. :data:`NUMBERS` holds every number that
the notebooks print, :func:`source_table` the three tables published with the paper, :func:`beside_published` compares
the results of a run with them, and :func:`page` writes all of it as a page of documentation.
"""

from __future__ import annotations

from nsdflow.analysis.published.beside import Cell, beside_published, why_not_comparable
from nsdflow.analysis.published.document import page
from nsdflow.analysis.published.lines import cells_text
from nsdflow.analysis.published.numbers import ALEXNET_CAVEAT, ASYMMETRY_CAVEAT, NUMBERS, Number
from nsdflow.analysis.published.tables import SOURCE_TABLES, find, source_table, value_of

__all__ = [
    "ALEXNET_CAVEAT",
    "ASYMMETRY_CAVEAT",
    "NUMBERS",
    "SOURCE_TABLES",
    "Cell",
    "Number",
    "beside_published",
    "cells_text",
    "find",
    "page",
    "source_table",
    "value_of",
    "why_not_comparable",
]
