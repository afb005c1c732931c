"""Pieces of a page: tables, facts, and pictures embedded as text."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from math import isnan
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from nsdflow.report.style import house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["details", "facts", "first_open", "picture", "script_data", "table"]

#: Pixels per inch of pictures of many marks.
_RASTER_DPI = 160


def picture(figure: Figure, description: str, *, raster: bool = False) -> str:
    """A figure inside the page: SVG, or PNG where many marks would make the SVG large."""
    buffer = BytesIO()
    with house_style():
        if raster:
            kind = "png"
            figure.set_dpi(_RASTER_DPI)
            _place(figure)
            figure.savefig(buffer, format="png", dpi=_RASTER_DPI)
        else:
            kind = "svg+xml"
            mpl.rcParams["svg.hashsalt"] = "nsdflow"  # the same figure gives the same bytes
            _place(figure)
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = b64encode(buffer.getvalue()).decode()
    width = round(96 * figure.get_figwidth())
    return f'<figure><img src="data:image/{kind};base64,{data}" alt="{escape(description)}" width="{width}"></figure>'


def _place(figure: Figure) -> None:
    """Give everything in the figure its final place. ``savefig`` would draw a second time to do so."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)  # "none" would leave a placeholder, for which savefig draws twice too


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers are aligned right, text left. Floats have three digits, NaN is a dash."""
    rows = list(rows)
    numeric = [isinstance(value, int | float) for value in rows[0]] if rows else [False] * len(header)
    sides = [' class="number"' if number else "" for number in numeric]
    head = "".join(f"<th{side}>{escape(name)}</th>" for name, side in zip(header, sides, strict=True))
    lines = ("".join(f"<td{side}>{_cell(value)}</td>" for value, side in zip(row, sides, strict=True)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Mapping[str, object]) -> str:
    """Names and values in two columns, without those that are None or empty."""
    lines = [
        f"<dt>{escape(name)}</dt><dd>{escape(_plain(value))}</dd>"
        for name, value in pairs.items()
        if value not in (None, "", [], {})
    ]
    return f"<dl>{''.join(lines)}</dl>"


def details(summary: str, content: str) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def first_open(parts: Mapping[str, str]) -> str:
    """Content by its heading: the first is shown, the others open on a click."""
    (first, content), *others = parts.items()
    return f"<h3>{escape(first)}</h3>{content}{''.join(details(name, other) for name, other in others)}"


def script_data(data: Any) -> str:
    """JSON inside a script element, which no text in it can end."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if isnan(value) else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value)
    return str(value)
