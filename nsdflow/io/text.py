"""Text shown to people: sizes with binary prefixes."""

from __future__ import annotations

from typing import Final

__all__ = ["format_bytes"]

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
