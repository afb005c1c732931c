"""Pieces of a page: tables, facts, pictures as text that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["details", "facts", "picture", "table"]


def picture(figure: Figure, description: str, *, raster: bool = False) -> str:
    """A figure inside of the page: SVG, or PNG where so many marks would make SVG large."""
    buffer = BytesIO()
    if raster:
        figure.savefig(buffer, format="png", dpi=160)
        kind = "png"
    else:
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        kind = "svg+xml"
    data = b64encode(buffer.getvalue()).decode()
    width = round(96 * figure.get_figwidth())
    return f'<figure><img src="data:image/{kind};base64,{data}" alt="{escape(description)}" width="{width}"></figure>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers stand right, text left. Floats are printed with three digits, NaN as a dash."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Mapping[str, object]) -> str:
    """Names and values in two columns; what is None or empty is left out."""
    lines = [
        f"<dt>{escape(name)}</dt><dd>{escape(_plain(value))}</dd>"
        for name, value in pairs.items()
        if value not in (None, "", [], {})
    ]
    return f"<dl>{''.join(lines)}</dl>"


def details(summary: str, content: str) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="number">{"–" if value != value else f"{value:.3f}"}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape(str(value))}</td>"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value)
    return str(value)
