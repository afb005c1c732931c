"""A run compared with the published numbers."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from nsdflow.analysis.published import Cell, beside_published, why_not_comparable
from nsdflow.report import markup
from nsdflow.report.sections.record import Section
from nsdflow.runs.contents import Run

__all__ = ["SECTIONS"]

_HEADER = ("quantity", "subject", "ROI", "this run", "published", "difference", "in standard errors")
#: Kinds of runs with published counterparts.
_KINDS = {"gnet", "fwrf", "fpf", "transfer"}


def _cells_table(cells: Iterable[Cell]) -> str:
    """The cells as an HTML table, with their notes below."""
    cells = tuple(cells)
    rows = [(c.quantity, c.subject, c.roi, c.ours, c.published, c.difference, c.in_errors) for c in cells]
    notes = "".join(f"<p>{escape(note)}.</p>" for note in dict.fromkeys(cell.note for cell in cells) if note)
    return markup.table(_HEADER, rows) + notes


def _beside(run: Run) -> str:
    pipeline = run.record.get("pipeline", {})
    if pipeline.get("kind") not in _KINDS:
        return ""
    reason = why_not_comparable(run.results, run.record)
    if reason is not None:
        return f"<p>No comparison: {escape(reason)}.</p>"
    cells = beside_published(run.results, str(pipeline.get("name", "")))
    main = [cell for cell in cells if cell.quantity.startswith(("median", "asymmetry"))]
    return _cells_table(main) + markup.details("Every number", _cells_table(cells))


SECTIONS = (
    Section(
        "Comparison with the published numbers",
        "Numbers that the notebooks and tables of the paper give, with those of this run. The error of a "
        "median or mean is the bootstrap error over trials of a voxel, averaged over the voxels: an upper bound, since "
        "errors of voxels are correlated. Differences within one or two of it are expected.",
        ("accuracy",),
        _beside,
    ),
)
