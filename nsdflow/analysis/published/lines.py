"""Text tables of our numbers and the published ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nsdflow.analysis.published.beside import Cell

__all__ = ["aligned", "as_text", "cells_text"]


def cells_text(cells: Sequence[Cell], *, ours: str) -> str:
    """A line per number, with the difference in standard errors, and the notes below.

    Parameters
    ----------
    ours : str
        Title of the column of our numbers.
    """
    rows = []
    for cell in cells:
        values = (cell.ours, cell.published, cell.difference)
        numbers = [as_text(value, _digits(cell.published)) for value in values]
        rows.append((cell.quantity, cell.subject, cell.roi, *numbers, as_text(cell.in_errors, 1)))
    notes = [f"note: {note}" for note in dict.fromkeys(cell.note for cell in cells) if note]
    header = ("quantity", "subject", "ROI", ours, "published", "difference", "in std. errors")
    return "\n".join([aligned(header, rows), *notes])


def _digits(published: float) -> int:
    """Decimals to show: none for counts, and enough to distinguish input means, which differ in the fourth."""
    if float(published).is_integer() and published >= 10:
        return 0
    return 5 if abs(published) < 1 and round(published, 3) != published else 3


def as_text(value: object, digits: int = 3) -> str:
    """A number or name for a table; whole numbers without decimals."""
    if isinstance(value, float):
        if np.isnan(value):
            return "-"
        return f"{value:,.0f}" if not digits or (value.is_integer() and abs(value) >= 10) else f"{value:.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text: the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [cell.ljust(w) if n < 2 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
