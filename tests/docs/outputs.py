"""Compares the output of a block with the output that its page shows."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator

__all__ = ["differences"]

NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?%?(?![\w])")
#: Trainings differ by rounding between machines; pages show two or three decimals of their results.
ABSOLUTE, RELATIVE = 0.05, 0.1


def differences(shown: str, printed: str) -> str:
    """The differences, as a diff; empty if there are none.

    ``...`` stands for anything, also across lines. Runs of spaces and lines' ends are alike. Whole numbers are equal;
    numbers with decimals, and percentages, are close.
    """
    wanted, got = _squeezed(shown), _squeezed(printed)
    pieces = [_tokens(piece) for piece in wanted.split("...")]
    if _fits(pieces, _tokens(got)):
        return ""
    return "\n".join(difflib.unified_diff(shown.splitlines(), printed.splitlines(), "page", "printed", lineterm=""))


def _squeezed(text: str) -> str:
    return "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)


def _tokens(text: str) -> list[str]:
    """Numbers, words, and other characters alone, each rule of a table as one."""
    out: list[str] = []
    for part in re.split(rf"({NUMBER.pattern})", text):
        out += [part] if NUMBER.fullmatch(part) else re.findall(r"\w+|[━─]+|\S", part)
    return out


def _fits(pieces: list[list[str]], tokens: list[str]) -> bool:
    """The first piece begins the text, the last ends it, the others follow each other in it."""
    place = 0
    for number, piece in enumerate(pieces):
        starts = [place] if number == 0 else _starts(number == len(pieces) - 1, piece, tokens, place)
        for start in starts:
            there = tokens[start : start + len(piece)]
            if len(there) == len(piece) and all(map(_alike, piece, there)):
                place = start + len(piece)
                break
        else:
            return False
    return place == len(tokens) or (len(pieces) > 1 and not pieces[-1])


def _starts(last: bool, piece: list[str], tokens: list[str], place: int) -> Iterator[int]:
    first = max(place, len(tokens) - len(piece)) if last and piece else place
    return iter(range(first, len(tokens) + 1))


def _alike(wanted: str, got: str) -> bool:
    if wanted == got or ({*wanted} <= {*"━─"} and {*got} <= {*"━─"}):
        return True
    if not (NUMBER.fullmatch(wanted) and NUMBER.fullmatch(got)):
        return False
    if not re.search(r"[.e%]", wanted + got):
        return False
    one, other = (float(text.strip("%").replace(",", "").replace("−", "-")) for text in (wanted, got))
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=100 * ABSOLUTE if "%" in wanted else ABSOLUTE)
