"""Text shown to people: sizes with binary prefixes, and foreign texts without control characters."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["for_terminal", "format_bytes", "printable"]

_PREFIXES: Final = (("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("ki", 10))


def format_bytes(count: float) -> str:
    """Format a number of bytes for people.

    >>> format_bytes(512), format_bytes(1 << 30)
    ('512 B', '1.00 GiB')
    """
    for prefix, exponent in _PREFIXES:
        if count >= 0.9 * 2**exponent:
            return f"{count / 2**exponent:.2f} {prefix}B"
    return f"{count:.0f} B"


def printable(value: Any) -> Any:
    """Escape control characters in texts, within lists and dictionaries too, so that no terminal obeys them.

    >>> printable({"text": "a\\x1b[2J"})
    {'text': 'a\\\\x1b[2J'}
    """
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)
    if isinstance(value, dict):
        return {printable(key): printable(inner) for key, inner in value.items()}
    return [printable(inner) for inner in value] if isinstance(value, list) else value


def for_terminal(text: object) -> str:
    """Lines for a terminal: as :func:`printable`, with line ends kept.

    >>> for_terminal("a run\\nof \\x1b[2Jothers")
    'a run\\nof \\\\x1b[2Jothers'
    """
    return "\n".join(printable(line) for line in str(text).split("\n"))
