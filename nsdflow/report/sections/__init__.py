"""The sections of a run's page: one table, in the order of the page.

A new section is a :class:`~nsdflow.report.sections.record.Section` in a module of this folder (and, for a new module,
one line here). It appears on the page of every run whose results have the variables that it needs.
"""

from __future__ import annotations

from nsdflow.report.sections import (
    accuracy,
    brain,
    comparison,
    features,
    overview,
    predictions,
    published,
    ridge,
    training,
    transfer,
)
from nsdflow.report.sections.record import Section

__all__ = ["SECTIONS", "Section"]

SECTIONS: tuple[Section, ...] = (
    *overview.SECTIONS,
    *training.SECTIONS,
    *transfer.SECTIONS,
    *comparison.SECTIONS,
    *features.TUNING,
    *predictions.SECTIONS,
    *ridge.SECTIONS,
    *accuracy.SECTIONS,
    *brain.SECTIONS,
    *features.SECTIONS,
    *published.SECTIONS,
)
